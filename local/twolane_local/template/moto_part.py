"""The part of a template that moto creates.

What the emulator plays itself never reaches moto: its event source mappings would consume messages
without running anything, and several types make it refuse the whole stack. References to what was
taken out become the literal values that the emulator uses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError, TemplateError
from twolane_local.model.openapi import is_true
from twolane_local.template import sources
from twolane_local.template import stand_ins as specification
from twolane_local.template.names import IN_MOTO, NAME_PROPERTY
from twolane_local.template.sources import of_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.template import Template
    from twolane_local.template.names import Names


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


_SUB = re.compile(r"\$\{([^!}][^}]*)\}")


def moto_template(
    template: Template,
    names: Names,
    ours: tuple[str, ...],
    complain: Callable[[str, str], None],
    outputs: Mapping[str, str],
) -> Mapping[str, Any]:
    """A CloudFormation template without references to anything outside of it."""
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
            complain(logical_id, f"{kind} is unknown to the emulator")
    # References are literal by now; what they said about the order must not be lost.
    for logical_id, resource in kept.items():
        original = template.resources[logical_id]
        before = mentioned(original.get("Properties")) | set(_listed(original.get("DependsOn")))
        resource["DependsOn"] = sorted(before & kept.keys() - {logical_id})
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": kept,
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        # Not CloudFormation's: what DescribeStackResources is to name beside.
        "Elsewhere": dict(_elsewhere(template, names)),
        # Nor these: for what moto cannot create.
        "Where": {logical_id: template.source.where(logical_id) for logical_id in kept},
        # Nor these: moto's CloudFormation knows no senders, moto's SES does.
        "Identities": identities,
        # Nor these: they call functions that moto does not hold.
        "Notifications": notifications(template, names),
        "Rules": list(sources.rules(template, names, complain)),
        # Nor these.
        "Secrets": secrets,
        # moto's CloudFormation has no subscriptions, its SNS has.
        "Subscriptions": list(sources.subscriptions(template, names, complain)),
    }


def _elsewhere(template: Template, names: Names) -> Iterator[tuple[str, tuple[str, str]]]:
    """Type and physical id of what is not moto's."""
    for logical_id, resource in template.resources.items():
        kind = resource["Type"]
        if kind == "AWS::CloudFormation::Stack" or kind in IN_MOTO:
            continue
        try:
            yield logical_id, (kind, str(names.ref(logical_id)))
        except (LocalError, TypeError, ValueError, LookupError, AttributeError, RecursionError):
            continue  # nothing refers to it, or that would have been refused


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _literal(logical_id: str, resource: Mapping[str, Any], names: Names) -> dict[str, Any]:
    properties = names.resolve(resource.get("Properties") or {})
    lacking = specification.missing(resource["Type"], properties)
    if lacking:
        raise TemplateError(f"{resource['Type']} needs {' and '.join(lacking)}")
    # Notifications are the emulator's: moto would refuse a function that it does not hold.
    properties.pop("NotificationConfiguration", None)
    if resource["Type"] == "AWS::SNS::Topic":
        properties.pop("Subscription", None)
    if resource["Type"] == "AWS::SQS::Queue":
        # Only the name: the queue that works is the emulator's.
        properties = {key: properties[key] for key in ("FifoQueue", "Tags") if key in properties}
    if resource["Type"] == "AWS::KMS::Key":
        properties.pop("Tags", None)  # moto's KMS would read them as its API's
        # AWS takes a default for it, moto's CloudFormation does not:
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-kms-key.html
        properties.setdefault("KeyPolicy", {})
    name = NAME_PROPERTY.get(resource["Type"])
    if name:
        properties[name] = names.name(logical_id)
    return {"Type": resource["Type"], "Properties": properties}


def mentioned(value: Any) -> set[str]:
    """The names that a value refers to, by Ref, GetAtt or Sub."""
    if isinstance(value, dict):
        found = {str(value["Ref"])} if "Ref" in value else set()
        target = value.get("Fn::GetAtt")
        if target:
            found.add(str(target.split(".")[0] if isinstance(target, str) else target[0]))
        text = value.get("Fn::Sub")
        if text:
            text = text if isinstance(text, str) else text[0]
            found |= {name.split(".")[0].strip() for name in _SUB.findall(text)}
        return found.union(*map(mentioned, value.values()))
    if isinstance(value, list):
        return set().union(*map(mentioned, value))
    return set()
