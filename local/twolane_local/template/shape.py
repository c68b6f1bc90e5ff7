"""Checks the form of a template's sections, resources and their attributes before they are read.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-anatomy.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.template.yaml import TemplateFile

    Keys = tuple[str, ...]

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
