"""Files that a template takes in: ``AWS::Include``, and an API's definition beside it.

On AWS both lie in S3, where `sam package` puts local ones. What is in S3 stays as it is.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-include.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import yaml as template_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TRANSFORM = "Fn::Transform"
#: The properties that hold the definition of an API by its address.
DEFINITIONS = {
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
    "AWS::ApiGateway::RestApi": "BodyS3Location",
    "AWS::ApiGatewayV2::Api": "BodyS3Location",
}


def included(value: Any, folder: Path) -> Any:
    """The value with each local file in the place that includes it. Raises ``TemplateError``."""
    if isinstance(value, list):
        return [included(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    rest = {key: included(item, folder) for key, item in value.items() if key != _TRANSFORM}
    if _TRANSFORM not in value:
        return rest
    file = _local(value[_TRANSFORM])
    if file is None:
        return {**rest, _TRANSFORM: value[_TRANSFORM]}
    # AWS processes no include in an included file.
    content = template_yaml.fragment(folder / file)
    if isinstance(content, dict):
        return {**content, **rest}
    if rest:
        raise TemplateError(f"{folder / file} is included beside other keys, so it must be a map")
    return content


def _local(transform: Any) -> str | None:
    if not isinstance(transform, dict) or transform.get("Name") != "AWS::Include":
        return None
    parameters = transform.get("Parameters")
    location = parameters.get("Location") if isinstance(parameters, dict) else None
    return location if isinstance(location, str) and is_local(location) else None


def is_local(location: str) -> bool:
    """Whether it is a file on this machine, as `sam package` sees it."""
    return bool(location) and not location.startswith(("s3://", "https://", "http://"))


def with_bodies(expanded: dict[str, Any], folder: Path, bucket: str) -> dict[str, Any]:
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
            body = template_yaml.fragment(folder / given)
            kept = {other: item for other, item in properties.items() if other != key}
            resources[name] = {**resource, "Properties": {**kept, "Body": body}}
    return {**expanded, "Resources": resources}


def files(content: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Every file that a template as written takes in."""
    found = {folder / each for each in _includes(content)}
    for resource in content["Resources"].values():
        if not isinstance(resource, dict) or not isinstance(resource.get("Properties"), dict):
            continue
        given = resource["Properties"].get(DEFINITIONS.get(str(resource.get("Type")), ""))
        if isinstance(given, str) and is_local(given):
            found.add(folder / given)
    return tuple(sorted(found))


def _includes(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _includes(item)
    elif isinstance(value, dict):
        file = _local(value.get(_TRANSFORM))
        if file is not None:
            yield file
        for item in value.values():
            yield from _includes(item)
