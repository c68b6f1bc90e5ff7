"""Files that a template takes in: ``AWS::Include``, and an API's definition beside it.

On AWS both lie in S3, where `sam package` puts local ones. What is in S3 stays as it is.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-include.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import yaml as template_yaml
from twolane_local.template.values import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    #: A location with the parameters in it.
    Resolve = Callable[[Any], Any]

_TRANSFORM = "Fn::Transform"
_INCLUDE = "AWS::Include"
#: The properties that hold the definition of an API by its address.
DEFINITIONS = {
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
    "AWS::ApiGateway::RestApi": "BodyS3Location",
    "AWS::ApiGatewayV2::Api": "BodyS3Location",
}


def resolver(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> Resolve:
    """Resolves the locations of a template, which may name its parameters."""
    mappings = content.get("Mappings") or {}
    return Resolver(
        parameters, conditions={}, mappings=mappings, ref=_no_resource, attribute=_no_resource
    )


def _no_resource(*names: str) -> Any:
    raise KeyError(*names)


def whole(content: Mapping[str, Any], folder: Path, resolve: Resolve) -> dict[str, Any]:
    """A template with all that it includes. Raises ``TemplateError``.

    What its own ``Transform`` includes adds to its sections.
    """
    result: dict[str, Any] = included(content, folder, resolve)
    for each in _listed(content.get("Transform")):
        file = _local(each, resolve)
        if file is None:
            continue
        added = template_yaml.fragment(folder / file)
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


def included(value: Any, folder: Path, resolve: Resolve) -> Any:
    """The value with each local file in the place that includes it. Raises ``TemplateError``."""
    if isinstance(value, list):
        return [included(item, folder, resolve) for item in value]
    if not isinstance(value, dict):
        return value
    rest = {
        key: included(item, folder, resolve) for key, item in value.items() if key != _TRANSFORM
    }
    if _TRANSFORM not in value:
        return rest
    file = _local(value[_TRANSFORM], resolve)
    if file is None:
        return {**rest, _TRANSFORM: value[_TRANSFORM]}
    # AWS processes no include in an included file.
    content = template_yaml.fragment(folder / file)
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
    return location if isinstance(location, str) and is_local(location) else None


def is_local(location: str) -> bool:
    """Whether it is a file on this machine, as `sam package` sees it."""
    return bool(location) and not location.startswith(("s3://", "https://", "http://"))


def with_bodies(
    expanded: dict[str, Any], source: template_yaml.Source, bucket: str
) -> dict[str, Any]:
    """The expanded template with the local definitions of its APIs as their bodies.

    ``bucket`` stands for this machine in what SAM has expanded.
    """
    resources = dict(expanded["Resources"])
    for name, resource in resources.items():
        if not isinstance(resource, dict):
            continue
        key = DEFINITIONS.get(str(resource.get("Type")))
        properties = resource.get("Properties")
        given = properties.get(key) if key and isinstance(properties, dict) else None
        if isinstance(given, dict) and given.get("Bucket") == bucket:
            given = given.get("Key")
        if key and properties and isinstance(given, str) and is_local(given):
            try:
                body = template_yaml.fragment(source.path.parent / given)
            except TemplateError as error:
                written = (source.content["Resources"].get(name) or {}).get("Properties") or {}
                field = "DefinitionUri" if "DefinitionUri" in written else key
                where = source.where(name, "Properties", field)
                raise TemplateError(f"{where}: {name}.{field}: {error}") from error
            kept = {other: item for other, item in properties.items() if other != key}
            resources[name] = {**resource, "Properties": {**kept, "Body": body}}
    return {**expanded, "Resources": resources}


def elsewhere(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """What of the resources is not on this machine: logical ids and reasons."""
    for name, resource in resources.items():
        properties = resource.get("Properties") or {}
        key = DEFINITIONS.get(str(resource.get("Type")))
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


def files(content: Mapping[str, Any], folder: Path, resolve: Resolve) -> tuple[Path, ...]:
    """Every file that a template as written takes in."""
    at_top = (_local(each, resolve) for each in _listed(content.get("Transform")))
    inside = _includes(content, resolve)
    found = {folder / each for each in (*at_top, *inside) if each is not None}
    for resource in content["Resources"].values():
        if not isinstance(resource, dict) or not isinstance(resource.get("Properties"), dict):
            continue
        given = resource["Properties"].get(DEFINITIONS.get(str(resource.get("Type")), ""))
        if isinstance(given, str) and is_local(given):
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
