"""The transform ``AWS::LanguageExtensions``: loops, look-ups with a default, computed names.

``Fn::Length`` and ``Fn::ToJsonString`` are resolved with the other functions.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.values import Resolver

if TYPE_CHECKING:
    from collections.abc import Mapping

TRANSFORM = "AWS::LanguageExtensions"
_SECTIONS = ("Conditions", "Resources", "Outputs")
_LOOP = "Fn::ForEach::"
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z]")


def apply(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template after the transform, if it declares it. Raises ``TemplateError``."""
    transforms = content.get("Transform") or []
    if TRANSFORM not in ([transforms] if isinstance(transforms, str) else transforms):
        loops = [key for name in _SECTIONS for key in content.get(name) or {} if _is_loop(key)]
        if loops:
            raise TemplateError(f"{loops[0]} needs the transform {TRANSFORM}: add it to Transform")
        return dict(content)
    mappings = content.get("Mappings") or {}
    expand = _Expansion(parameters, mappings)
    sections = {name: expand(content[name], {}) for name in _SECTIONS if content.get(name)}
    return {**content, **sections}


def _is_loop(key: Any) -> bool:
    return isinstance(key, str) and key.startswith(_LOOP)


def _not_a_parameter(*names: str) -> Any:
    raise KeyError(*names)


class _Expansion:
    """Expands a value; ``names`` are the identifiers of the loops around it, and their items."""

    def __init__(self, parameters: Mapping[str, Any], mappings: Mapping[str, Any]) -> None:
        self._mappings = mappings
        self._resolve = Resolver(
            parameters,
            conditions={},
            mappings=mappings,
            ref=_not_a_parameter,
            attribute=_not_a_parameter,
        )

    def __call__(self, value: Any, names: Mapping[str, str]) -> Any:
        if isinstance(value, str):
            return _with_items(value, names)
        if isinstance(value, list):
            return [self(item, names) for item in value]
        if not isinstance(value, dict):
            return value
        result: dict[str, Any] = {}
        for key, item in value.items():
            made = (
                self._loop(key, item, names)
                if _is_loop(key)
                else {_with_items(key, names): self(item, names)}
            )
            twice = result.keys() & made.keys()
            if twice:
                raise TemplateError(f"{key} makes {min(twice)!r}, which exists already")
            result |= made
        return self._function(result, names)

    def _loop(self, key: str, argument: Any, names: Mapping[str, str]) -> dict[str, Any]:
        match argument:
            case [str() as identifier, collection, dict() as body]:
                items = self._resolve(self(collection, names))
            case _:
                items = None
        if not isinstance(items, list):
            raise TemplateError(f"{key} takes [identifier, a list, {{key: value}}]")
        result: dict[str, Any] = {}
        for item in items:
            made = self(body, {**names, identifier: str(item)})
            twice = result.keys() & made.keys()
            if twice:
                raise TemplateError(f"{key} makes {min(twice)!r} more than once")
            result |= made
        return result

    def _function(self, value: dict[str, Any], names: Mapping[str, str]) -> Any:
        """Resolve the functions that belong to this transform."""
        match value:
            case {"Ref": str() as name, **rest} if not rest and name in names:
                return names[name]
            case {"Ref": dict() as name, **rest} if not rest:
                return {"Ref": self._resolve(name)}
            case {"Fn::GetAtt": [name, attribute], **rest} if not rest:
                return {"Fn::GetAtt": [self._resolve(name), attribute]}
            case {"Fn::FindInMap": [name, top, second, *more], **rest} if not rest:
                return self._find(self._resolve([name, top, second]), more)
        return value

    def _find(self, keys: list[Any], more: list[Any]) -> Any:
        name, top, second = map(str, keys)
        try:
            return self._mappings[name][top][second]
        except KeyError:
            if more and isinstance(more[0], dict) and "DefaultValue" in more[0]:
                return more[0]["DefaultValue"]
            where = f"{name}.{top}.{second}"
            raise TemplateError(f"FindInMap {where} is not in Mappings") from None


def _with_items(text: str, names: Mapping[str, str]) -> str:
    """Replace ``${Name}`` by the loop's item, ``&{Name}`` by its letters and digits only."""
    for name, item in names.items():
        text = text.replace(f"${{{name}}}", item)
        text = text.replace(f"&{{{name}}}", _NOT_PLAIN.sub("", item))
    return text
