"""What buckets tell, and whom: of a bucket's own properties, or of CDK's resource for it.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-notificationconfiguration.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.stack.openapi import is_true
from twolane_local.stack.sources import of_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.stack.names import Names
    from twolane_local.template import Template

#: CDK's functions call S3 with what this has, in the spelling of its API.
CUSTOM = "Custom::S3BucketNotifications"
#: In S3's XML, and for each of these in a template and in the API: the list, and whom it names.
_KINDS = {
    "CloudFunction": (
        ("LambdaConfigurations", "Function"),
        ("LambdaFunctionConfigurations", "LambdaFunctionArn"),
    ),
    "Queue": (("QueueConfigurations", "Queue"), ("QueueConfigurations", "QueueArn")),
    "Topic": (("TopicConfigurations", "Topic"), ("TopicConfigurations", "TopicArn")),
}


def notifications(template: Template, names: Names) -> dict[str, Any]:
    """By bucket, in the spelling of S3's XML."""
    found: dict[str, Any] = {}
    for logical_id, properties in of_type(template, "AWS::S3::Bucket"):
        given = names.resolve(properties.get("NotificationConfiguration") or {})
        bridge = given.get("EventBridgeConfiguration") or {"EventBridgeEnabled": False}
        hears = is_true(bridge.get("EventBridgeEnabled", True))
        _add(found, names.name(logical_id), _spelled(given, 0), bridge=hears)
    for _, properties in of_type(template, CUSTOM):
        resolved = names.resolve(dict(properties))
        given = resolved.get("NotificationConfiguration") or {}
        hears = "EventBridgeConfiguration" in given
        _add(found, str(resolved["BucketName"]), _spelled(given, 1), bridge=hears)
    return found


def _add(
    found: dict[str, Any], bucket: str, configuration: Mapping[str, list[Any]], *, bridge: bool
) -> None:
    if bridge or any(configuration.values()):
        made = found.setdefault(bucket, {})
        for kind, items in configuration.items():
            made[kind] = [*made.get(kind, ()), *items]
        if bridge:
            made["EventBridgeConfiguration"] = {}


def _spelled(given: Mapping[str, Any], spelling: int) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for kind, spellings in _KINDS.items():
        plural, target = spellings[spelling]
        found[f"{kind}Configuration"] = [
            _notification(item, kind, item[target])
            for item in given.get(plural) or ()
            if target in item
        ]
    return found


def _notification(item: Mapping[str, Any], kind: str, target: str) -> dict[str, Any]:
    events = item.get("Events", item.get("Event"))
    filters = item.get("Filter") or {}
    rules = (filters.get("S3Key") or {}).get("Rules") or (filters.get("Key") or {}).get(
        "FilterRules"
    )
    made: dict[str, Any] = {
        kind: target,
        "Event": [events] if isinstance(events, str) else list(events or ()),
    }
    if rules:
        key_rules = [{"Name": str(r["Name"]).lower(), "Value": r["Value"]} for r in rules]
        made["Filter"] = {"S3Key": {"FilterRule": key_rules}}
    return made
