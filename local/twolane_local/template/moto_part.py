"""Makes the part of a template that moto creates.

Resources that the emulator owns never reach moto: its event source mappings would consume messages
without running anything, and several types make it refuse the whole stack. References to them
become the literal values that the emulator uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError, TemplateError
from twolane_local.model.openapi import is_true
from twolane_local.template import sources
from twolane_local.template.names import IN_MOTO, NAME_PROPERTY
from twolane_local.template.placeholders import missing_properties
from twolane_local.template.values import needed_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.template import Template
    from twolane_local.template.names import Names
    from twolane_local.template.yaml import Notes


#: CDK's resource for bucket notifications; its properties are spelled as in S3's API.
_CDK_NOTIFICATIONS = "Custom::S3BucketNotifications"
#: For each kind in S3's XML, the names of the list and of the target: in a template, in the API.
_KINDS = {
    "CloudFunction": (
        ("LambdaConfigurations", "Function"),
        ("LambdaFunctionConfigurations", "LambdaFunctionArn"),
    ),
    "Queue": (("QueueConfigurations", "Queue"), ("QueueConfigurations", "QueueArn")),
    "Topic": (("TopicConfigurations", "Topic"), ("TopicConfigurations", "TopicArn")),
}


def read_notifications(template: Template, names: Names) -> dict[str, Any]:
    """Return the notifications of each bucket, spelled as in S3's XML."""
    found: dict[str, Any] = {}
    for logical_id, properties in template.of_type("AWS::S3::Bucket"):
        given = names.resolve(properties.get("NotificationConfiguration") or {})
        bridge = given.get("EventBridgeConfiguration") or {"EventBridgeEnabled": False}
        enabled = is_true(bridge.get("EventBridgeEnabled", True))
        _add(found, names.name(logical_id), _in_xml_names(given, 0), event_bridge=enabled)
    for _, properties in template.of_type(_CDK_NOTIFICATIONS):
        resolved = names.resolve(dict(properties))
        given = resolved.get("NotificationConfiguration") or {}
        enabled = "EventBridgeConfiguration" in given
        _add(found, str(resolved["BucketName"]), _in_xml_names(given, 1), event_bridge=enabled)
    return found


def _add(
    found: dict[str, Any],
    bucket: str,
    configuration: Mapping[str, list[Any]],
    *,
    event_bridge: bool,
) -> None:
    if event_bridge or any(configuration.values()):
        whole = found.setdefault(bucket, {})
        for kind, items in configuration.items():
            whole[kind] = [*whole.get(kind, ()), *items]
        if event_bridge:
            whole["EventBridgeConfiguration"] = {}


def _in_xml_names(given: Mapping[str, Any], spelling: int) -> dict[str, list[Any]]:
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
    result: dict[str, Any] = {
        kind: target,
        "Event": [events] if isinstance(events, str) else list(events or ()),
    }
    if rules:
        key_rules = [{"Name": str(r["Name"]).lower(), "Value": r["Value"]} for r in rules]
        result["Filter"] = {"S3Key": {"FilterRule": key_rules}}
    return result


def moto_template(
    template: Template,
    names: Names,
    ours: tuple[str, ...],
    notes: Notes,
    outputs: Mapping[str, str],
) -> Mapping[str, Any]:
    """Return a CloudFormation template without references to anything outside of it."""
    kept: dict[str, Any] = {}
    identities: list[str] = []
    secrets: list[dict[str, Any]] = []
    for logical_id, resource in template.resources.items():
        kind = resource["Type"]
        if kind in IN_MOTO:
            kept[logical_id] = _literal(logical_id, resource, names)
        elif kind == "AWS::SES::EmailIdentity":
            identities.append(str(names.resolve(resource["Properties"]["EmailIdentity"])))
        elif kind == "AWS::SecretsManager::Secret":
            properties = names.resolve(resource.get("Properties") or {})
            secrets.append({**properties, "Name": names.name(logical_id)})
        elif kind != "AWS::CloudFormation::Stack" and not kind.startswith(ours):
            notes.not_emulated(logical_id, f"{kind} is unknown to the emulator")
    # The references are literal values by now; DependsOn keeps the order that they imply.
    for logical_id, resource in kept.items():
        before = set(needed_by(template.resources[logical_id], names.condition))
        resource["DependsOn"] = sorted(before & kept.keys() - {logical_id})
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": kept,
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        # The sections below are not CloudFormation's.
        # The resources that moto does not have, for DescribeStackResources.
        "Elsewhere": dict(_elsewhere(template, names)),
        # The lines of resources, for errors of moto.
        "Where": {logical_id: template.source.where(logical_id) for logical_id in kept},
        # moto's SES has identities, its CloudFormation does not.
        "Identities": identities,
        # Notifications and rules call functions that moto does not have.
        "Notifications": read_notifications(template, names),
        "Rules": list(sources.read_rules(template, names, notes)),
        "Secrets": secrets,
        # moto's SNS has subscriptions, its CloudFormation does not.
        "Subscriptions": list(sources.read_subscriptions(template, names, notes)),
    }


def _elsewhere(template: Template, names: Names) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield type and physical id of the resources that moto does not have."""
    for logical_id, resource in template.resources.items():
        kind = resource["Type"]
        if kind == "AWS::CloudFormation::Stack" or kind in IN_MOTO:
            continue
        try:
            yield logical_id, (kind, str(names.ref(logical_id)))
        except (LocalError, TypeError, ValueError, LookupError, AttributeError, RecursionError):
            continue  # nothing refers to it, else it would have been refused


def _literal(logical_id: str, resource: Mapping[str, Any], names: Names) -> dict[str, Any]:
    properties = names.resolve(resource.get("Properties") or {})
    missing = missing_properties(resource["Type"], properties)
    if missing:
        raise TemplateError(f"{resource['Type']} needs {' and '.join(missing)}")
    # The emulator sets notifications: moto would refuse a function that it does not have.
    properties.pop("NotificationConfiguration", None)
    if resource["Type"] == "AWS::SNS::Topic":
        properties.pop("Subscription", None)
    if resource["Type"] == "AWS::SQS::Queue":
        # moto needs only the name: the emulator runs the queue.
        properties = {key: properties[key] for key in ("FifoQueue", "Tags") if key in properties}
    if resource["Type"] == "AWS::KMS::Key":
        properties.pop("Tags", None)  # moto's KMS would read them as its API's
        # AWS has a default for it, moto's CloudFormation does not:
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-kms-key.html
        properties.setdefault("KeyPolicy", {})
    name = NAME_PROPERTY.get(resource["Type"])
    if name:
        properties[name] = names.name(logical_id)
    return {"Type": resource["Type"], "Properties": properties}
