"""Checks a template: its form, before anything reads it, and what AWS refuses, once it is read.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-anatomy.html
https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.names import NAME_PROPERTY
from twolane_local.template.values import find_circle, needed_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.template.yaml import TemplateFile

    Keys = tuple[str, ...]
    from twolane_local.template import Template
    from twolane_local.template.names import Names


#: Keys that these sections may have beside entries before they are expanded.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-foreach.html
_MACROS = ("Fn::ForEach::", "Fn::Transform")
_WITH_MACROS = ("Mappings", "Conditions", "Resources", "Outputs")
_SECTIONS = ("Parameters", "Mappings", "Conditions", "Globals", "Outputs")


def check(source: TemplateFile) -> None:
    """Raise ``TemplateError`` for the first value of the wrong kind, with its line."""
    content = source.content
    for name in _SECTIONS:
        if not isinstance(content.get(name) or {}, dict):
            _refuse(source, (name,), "must be a map")
    transforms = content.get("Transform") or []
    for each in transforms if isinstance(transforms, list) else [transforms]:
        if not isinstance(each, str | dict):
            _refuse(source, ("Transform",), "must be a name, a map, or a list of them")
    for section, check_entry in _CHECKS.items():
        for name, value in (content.get(section) or {}).items():
            if section not in _WITH_MACROS or not name.startswith(_MACROS):
                check_entry(source, (section, name), value)


def check_expanded(source: TemplateFile, expanded: Mapping[str, Any]) -> None:
    """Raise ``TemplateError`` for a macro that was not expanded."""
    for section in _WITH_MACROS:
        for name in expanded.get(section) or {}:
            if name.startswith(_MACROS):
                _refuse(source, (section, name), "is not known to the emulator")


def _check_parameter(source: TemplateFile, here: Keys, parameter: Any) -> None:
    _check_map(source, here, parameter)
    _check_text(source, (*here, "Type"), parameter.get("Type", "String"))
    if not isinstance(parameter.get("AllowedValues") or [], list):
        _refuse(source, (*here, "AllowedValues"), "must be a list")


def _check_mapping(source: TemplateFile, here: Keys, mapping: Any) -> None:
    _check_map(source, here, mapping)
    for key, values in mapping.items():
        if not key.startswith(_MACROS):
            _check_map(source, (*here, key), values)


def _check_global(source: TemplateFile, here: Keys, section: Any) -> None:
    if section is not None:
        _check_map(source, here, section)


def _check_output(source: TemplateFile, here: Keys, output: Any) -> None:
    _check_map(source, here, output)
    if "Value" not in output:
        _refuse(source, here, "has no Value")
    _check_text(source, (*here, "Condition"), output.get("Condition", ""))


def _check_resource(source: TemplateFile, here: Keys, resource: Any) -> None:
    _check_map(source, here, resource)
    if "Type" not in resource:
        _refuse(source, here, "has no Type")
    _check_text(source, (*here, "Type"), resource["Type"])
    for attribute in ("Properties", "Metadata"):
        if not isinstance(resource.get(attribute) or {}, dict):
            _refuse(source, (*here, attribute), "must be a map")
    if "Condition" in resource:
        _check_text(source, (*here, "Condition"), resource["Condition"])
    before = resource.get("DependsOn") or []
    for each in before if isinstance(before, list) else [before]:
        if not isinstance(each, str):
            _refuse(source, (*here, "DependsOn"), "must be a logical id, or a list of them")


def _check_map(source: TemplateFile, keys: Keys, value: Any) -> None:
    if not isinstance(value, dict):
        _refuse(source, keys, "must be a map")


def _check_text(source: TemplateFile, keys: Keys, value: Any) -> None:
    if not isinstance(value, str):
        _refuse(source, keys, f"must be text, not {value!r:.40}")


def _refuse(source: TemplateFile, keys: Keys, problem: str) -> None:
    # The logical id is enough, without "Resources" in front.
    named = ".".join(keys[1:] if keys[0] == "Resources" else keys)
    raise TemplateError(f"{source.at(*keys)}: {named} {problem}")


_CHECKS: Mapping[str, Callable[[TemplateFile, Keys, Any], None]] = {
    "Parameters": _check_parameter,
    "Mappings": _check_mapping,
    "Conditions": _check_map,
    "Globals": _check_global,
    "Resources": _check_resource,
    "Outputs": _check_output,
}


#: The second is for managed instances.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
_TIMEOUT_S, _MANAGED_TIMEOUT_S = 900, 5_400
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_MEMORY_MB = (128, 10_240)
#: For managed instances: https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
_MANAGED_MEMORY_MB = 32_768
#: https://docs.aws.amazon.com/lambda/latest/api/API_EphemeralStorage.html
_STORAGE_MB, _ACCELERATED_STORAGE_MB = (512, 10_240), 32_768
#: https://docs.aws.amazon.com/lambda/latest/api/API_Environment.html
_VARIABLE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]+")
#: A name has at most 64 characters; an ARN may be longer.
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}|.*:.*")
#: Layers of one name are its versions; rules and schedules are unique in their bus or group only.
_NAME_NOT_UNIQUE = frozenset(
    {"AWS::Lambda::LayerVersion", "AWS::Events::Rule", "AWS::Scheduler::Schedule"}
)


def check_circles(template: Template, names: Names) -> None:
    """Refuse resources that need each other."""
    circle = find_circle(
        {
            logical_id: needed_by(resource, names.condition)
            for logical_id, resource in template.resources.items()
        }
    )
    if circle:
        raise TemplateError(
            f"{template.source.where(circle[0])}: {' → '.join(circle)} is circular: none of them "
            "can be created first; remove one of the references"
        )


def check_names(template: Template, names: Names) -> None:
    """Refuse a name that two resources of one type have."""
    owners: dict[tuple[str, str], str] = {}
    for logical_id, resource in template.resources.items():
        kind = resource["Type"]
        key = NAME_PROPERTY.get(kind, "")
        if kind in _NAME_NOT_UNIQUE or (resource.get("Properties") or {}).get(key) is None:
            continue
        name = names.name(logical_id)
        first = owners.setdefault((kind, name), logical_id)
        if first != logical_id:
            raise TemplateError(
                f"{template.source.where(logical_id, 'Properties', key)}: {logical_id}.{key}: "
                f"{name!r} is already the name of {first}"
            )


def check_function(properties: Mapping[str, Any]) -> None:
    """Raise ``TemplateError`` for the first property that Lambda would refuse."""
    managed = "CapacityProviderConfig" in properties
    whole_number(properties, "Timeout", 3, 1, _MANAGED_TIMEOUT_S if managed else _TIMEOUT_S)
    low, high = _MEMORY_MB
    whole_number(properties, "MemorySize", low, low, _MANAGED_MEMORY_MB if managed else high)
    whole_number(properties, "ReservedConcurrentExecutions", 0, 0, None)
    low, high = _STORAGE_MB
    storage = _map(properties, "EphemeralStorage")
    most = _ACCELERATED_STORAGE_MB if "AcceleratorConfig" in properties else high
    whole_number(storage, "Size", low, low, most, field="EphemeralStorage.Size")
    for key in ("Handler", "Runtime", "FunctionName"):
        value = properties.get(key, "text")
        if not isinstance(value, str) or "\0" in value:
            raise TemplateError(f"{key} must be text, not {value!r:.40}")
    name = properties.get("FunctionName", "F")
    if not _FUNCTION_NAME.fullmatch(name):
        raise TemplateError(
            f"FunctionName {name!r:.80} must have 1 to 64 letters, digits, '-' and '_'"
        )
    for key in ("Code", "LoggingConfig", "SnapStart", "DeadLetterConfig"):
        _map(properties, key)
    if not isinstance(properties.get("Layers") or [], list):
        raise TemplateError("Layers must be a list")
    _check_tenancy(properties)
    _check_environment(properties)


def _check_tenancy(properties: Mapping[str, Any]) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html"""
    if not (tenancy := _map(properties, "TenancyConfig")):
        return
    mode = tenancy.get("TenantIsolationMode")
    if mode != "PER_TENANT":
        raise TemplateError(f"TenancyConfig.TenantIsolationMode must be PER_TENANT, not {mode!r}")
    if _map(properties, "SnapStart").get("ApplyOn") == "PublishedVersions":
        raise TemplateError("SnapStart is not supported for functions enabled with TenancyConfig")


def _check_environment(properties: Mapping[str, Any]) -> None:
    variables = _map(_map(properties, "Environment"), "Variables", "Environment.Variables")
    for name, value in variables.items():
        field = f"Environment.Variables.{name}"
        if not _VARIABLE.fullmatch(name):
            raise TemplateError(
                f"{field}: a name begins with a letter, and has two or more letters, digits and '_'"
            )
        if isinstance(value, dict | list) or "\0" in str(value):
            raise TemplateError(f"{field} must be text, not {value!r:.40}")


def _map(properties: Mapping[str, Any], key: str, field: str = "") -> Mapping[str, Any]:
    value = properties.get(key) or {}
    if not isinstance(value, dict):
        raise TemplateError(f"{field or key} must be a map, not {value!r:.40}")
    return value


def whole_number(
    properties: Mapping[str, Any],
    key: str,
    default: int,
    low: int,
    high: int | None,
    *,
    field: str = "",
) -> int:
    """Return a whole number, given as a number or as text. Raises ``TemplateError``."""
    value = properties.get(key, default)
    try:
        found = int(value)
    except (TypeError, ValueError):
        found = None
    is_text = isinstance(value, str)
    if found is None or isinstance(value, bool) or not (is_text or value == found):
        raise TemplateError(f"{field or key} must be a whole number, not {value!r:.40}")
    if found < low or (high is not None and found > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise TemplateError(f"{field or key} must be {bounds}, not {found}")
    return found
