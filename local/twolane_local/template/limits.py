"""Refuses templates that can be read but that AWS does not accept.

https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.names import NAME_PROPERTY
from twolane_local.template.values import find_circle, needed_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.template import Template
    from twolane_local.template.names import Names

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
    _check_environment(properties)


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
