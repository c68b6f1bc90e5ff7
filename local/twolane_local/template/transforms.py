"""The transforms that CloudFormation applies: ``AWS::Include`` and ``AWS::LanguageExtensions``.

An included file, or an API's definition, lies in S3 on AWS, where `sam package` puts local ones.
What is in S3 stays as it is.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-include.html

Language extensions are loops, look-ups with a default, and computed names. ``Fn::Length`` and
``Fn::ToJsonString`` are resolved with the other functions.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.values import Resolver
from twolane_local.template.yaml import TemplateFile, read_fragment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Resolve = Callable[[Any], Any]


_TRANSFORM = "Fn::Transform"
_INCLUDE = "AWS::Include"
#: The properties with the address of an API's definition.
_DEFINITIONS = {
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
    "AWS::ApiGateway::RestApi": "BodyS3Location",
    "AWS::ApiGatewayV2::Api": "BodyS3Location",
}


def location_resolver(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> Resolve:
    """Return a resolver for the locations of a template, which may refer to its parameters."""
    mappings = content.get("Mappings") or {}
    return Resolver(
        parameters, conditions={}, mappings=mappings, ref=_no_resource, attribute=_no_resource
    )


def _no_resource(*names: str) -> Any:
    raise KeyError(*names)


def with_includes(content: Mapping[str, Any], folder: Path, resolve: Resolve) -> dict[str, Any]:
    """Include all, in ``Transform`` too. Raises ``TemplateError``."""
    result: dict[str, Any] = expand_includes(content, folder, resolve)
    for each in _listed(content.get("Transform")):
        file = _local(each, resolve)
        if file is None:
            continue
        added = read_fragment(folder / file)
        if not isinstance(added, dict):
            raise TemplateError(f"{folder / file} is included at the top, so it must be a map")
        for section, value in added.items():
            there = result.get(section)
            both = isinstance(value, dict) and isinstance(there, dict)
            result[section] = {**there, **value} if both and there else value
        result["Transform"] = [kept for kept in _listed(result["Transform"]) if kept != each]
    return result


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def expand_includes(value: Any, folder: Path, resolve: Resolve) -> Any:
    """Return the value with its local includes replaced. Raises ``TemplateError``."""
    if isinstance(value, list):
        return [expand_includes(item, folder, resolve) for item in value]
    if not isinstance(value, dict):
        return value
    rest = {
        key: expand_includes(item, folder, resolve)
        for key, item in value.items()
        if key != _TRANSFORM
    }
    if _TRANSFORM not in value:
        return rest
    file = _local(value[_TRANSFORM], resolve)
    if file is None:
        return {**rest, _TRANSFORM: value[_TRANSFORM]}
    # AWS processes no include in an included file.
    content = read_fragment(folder / file)
    if isinstance(content, dict):
        return {**content, **rest}
    if rest:
        raise TemplateError(f"{folder / file} is included beside other keys, so it must be a map")
    return content


def _local(transform: Any, resolve: Resolve) -> str | None:
    if not isinstance(transform, dict) or transform.get("Name") != _INCLUDE:
        return None
    parameters = transform.get("Parameters")
    location = resolve(parameters.get("Location")) if isinstance(parameters, dict) else None
    return location if isinstance(location, str) and _is_local(location) else None


def _is_local(location: str) -> bool:
    """Return whether `sam package` would take this for a file on this machine."""
    return bool(location) and not location.startswith(("s3://", "https://", "http://"))


def with_definitions(expanded: dict[str, Any], source: TemplateFile, bucket: str) -> dict[str, Any]:
    """Return it with local API definitions as ``Body``; ``bucket`` means this machine."""
    resources = dict(expanded["Resources"])
    for name, resource in resources.items():
        if not isinstance(resource, dict):
            continue
        key = _DEFINITIONS.get(str(resource.get("Type")))
        properties = resource.get("Properties")
        given = properties.get(key) if key and isinstance(properties, dict) else None
        if isinstance(given, dict) and given.get("Bucket") == bucket:
            given = given.get("Key")
        if key and properties and isinstance(given, str) and _is_local(given):
            try:
                body = read_fragment(source.path.parent / given)
            except TemplateError as error:
                written = (source.content["Resources"].get(name) or {}).get("Properties") or {}
                field = "DefinitionUri" if "DefinitionUri" in written else key
                where = source.where(name, "Properties", field)
                raise TemplateError(f"{where}: {name}.{field}: {error}") from error
            kept = {other: item for other, item in properties.items() if other != key}
            resources[name] = {**resource, "Properties": {**kept, "Body": body}}
    return {**expanded, "Resources": resources}


def not_local(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the resources whose definition is not on this machine, each with the reason."""
    for name, resource in resources.items():
        properties = resource.get("Properties") or {}
        key = _DEFINITIONS.get(str(resource.get("Type")))
        if key in properties:
            yield name, "its definition is in S3, and only a file beside the template is read"
        for transform in _transforms(properties):
            if transform.get("Name") == _INCLUDE:
                location = (transform.get("Parameters") or {}).get("Location")
                yield name, f"{_INCLUDE} reads files beside the template, and not {location}"
            else:
                yield name, f"the macro {transform.get('Name')} is not expanded"


def _transforms(value: Any) -> Iterator[Mapping[str, Any]]:
    for each in _listed(value.get(_TRANSFORM) if isinstance(value, dict) else None):
        if isinstance(each, dict):
            yield each
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield from _transforms(item)


def included_files(content: Mapping[str, Any], folder: Path, resolve: Resolve) -> tuple[Path, ...]:
    """Return every file that a template includes."""
    at_top = (_local(each, resolve) for each in _listed(content.get("Transform")))
    inside = _includes(content, resolve)
    found = {folder / each for each in (*at_top, *inside) if each is not None}
    for resource in content["Resources"].values():
        if not isinstance(resource, dict) or not isinstance(resource.get("Properties"), dict):
            continue
        given = resource["Properties"].get(_DEFINITIONS.get(str(resource.get("Type")), ""))
        if isinstance(given, str) and _is_local(given):
            found.add(folder / given)
    return tuple(sorted(found))


def _includes(value: Any, resolve: Resolve) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _includes(item, resolve)
    elif isinstance(value, dict):
        file = _local(value.get(_TRANSFORM), resolve)
        if file is not None:
            yield file
        for item in value.values():
            yield from _includes(item, resolve)


TRANSFORM = "AWS::LanguageExtensions"
_SECTIONS = ("Conditions", "Resources", "Outputs")
_LOOP = "Fn::ForEach::"
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z]")


def apply(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template after the transform, if it declares it. Raises ``TemplateError``."""
    if TRANSFORM not in _listed(content.get("Transform")):
        loops = [key for name in _SECTIONS for key in content.get(name) or {} if _is_loop(key)]
        if loops:
            raise TemplateError(f"{loops[0]} needs the transform {TRANSFORM}: add it to Transform")
        return dict(content)
    expand = _Expansion(location_resolver(content, parameters), content.get("Mappings") or {})
    sections = {name: expand(content[name], {}) for name in _SECTIONS if content.get(name)}
    return {**content, **sections}


def _is_loop(key: Any) -> bool:
    return isinstance(key, str) and key.startswith(_LOOP)


class _Expansion:
    """Expands a value; ``names`` are the identifiers of the loops around it, and their items."""

    def __init__(self, resolve: Resolve, mappings: Mapping[str, Any]) -> None:
        self._resolve, self._mappings = resolve, mappings

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
                name, top, second = map(str, self._resolve([name, top, second]))
                try:
                    return self._mappings[name][top][second]
                except KeyError:
                    if more and isinstance(more[0], dict) and "DefaultValue" in more[0]:
                        return more[0]["DefaultValue"]
                    where = f"{name}.{top}.{second}"
                    raise TemplateError(f"FindInMap {where} is not in Mappings") from None
        return value


def _with_items(text: str, names: Mapping[str, str]) -> str:
    """Replace ``${Name}`` by the loop's item, ``&{Name}`` by its letters and digits only."""
    for name, item in names.items():
        text = text.replace(f"${{{name}}}", item)
        text = text.replace(f"&{{{name}}}", _NOT_PLAIN.sub("", item))
    return text
