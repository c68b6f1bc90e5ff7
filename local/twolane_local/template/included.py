"""Parts of a template that stand in files of their own: ``AWS::Include``, and API documents.

On AWS they are in S3, where `sam package` puts them; here they are read from where they are.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-include.html
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-httpapi.html#sam-httpapi-definitionuri
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import yaml as template_yaml
from twolane_local.template.values import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from twolane_local.template.yaml import Source

#: The bucket that stands for "a path on this machine"; the key is the path.
LOCAL_BUCKET = "twolane-local-path"
TRANSFORM = "Fn::Transform"
_NAME = "AWS::Include"
_APIS = frozenset({"AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api"})


def applied(source: Source, values: Mapping[str, Any]) -> dict[str, Any]:
    """The template with what it includes from files; what is in S3 stays to be named."""
    content = source.content
    given = content.get("Transform") or []
    transforms = given if isinstance(given, list) else [given]
    mine = [each for each in transforms if isinstance(each, dict) and each.get("Name") == _NAME]
    include = _Include(source, values)
    if mine:
        rest = [each for each in transforms if each not in mine]
        content = {**content, "Transform": rest}
        for each in mine:
            content = include.merged(content, each)
    included: dict[str, Any] = include(content)
    return included


class _Include:
    def __init__(self, source: Source, values: Mapping[str, Any]) -> None:
        self._source = source
        mappings = source.content.get("Mappings") or {}
        self._resolve = Resolver(
            values, conditions={}, mappings=mappings, ref=_no_resource, attribute=_no_resource
        )

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {key: self(item) for key, item in value.items() if key != TRANSFORM}
        transform = value.get(TRANSFORM)
        if transform is None:
            return found
        for each in transform if isinstance(transform, list) else [transform]:
            found = self.merged(found, each)
        return found

    def merged(self, beside: dict[str, Any], transform: Any) -> dict[str, Any]:
        """What stands beside an include, and what it includes."""
        path = self._path(transform)
        if path is None:
            return {**beside, TRANSFORM: transform}
        fragment = document(path, f"{self._source.path}: {_NAME}")
        return {**beside, **_below(beside, fragment)}

    def _path(self, transform: Any) -> Path | None:
        """The file on this machine; ``None`` for one in S3, and for other macros."""
        if not isinstance(transform, dict) or transform.get("Name") != _NAME:
            return None
        location = self._resolve((transform.get("Parameters") or {}).get("Location"))
        if not isinstance(location, str) or not location:
            raise TemplateError(f"{self._source.path}: {_NAME} needs a Location, the file's path")
        return None if "://" in location else self._source.path.parent / location


def _below(beside: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    """Of a section that both have, the entries of both: what is included at the top adds to it."""
    return {
        key: {**beside[key], **item}
        if isinstance(item, dict) and isinstance(beside.get(key), dict)
        else item
        for key, item in fragment.items()
    }


def _no_resource(*names: str) -> Any:
    raise KeyError(*names)


def document(path: Path, where: str) -> dict[str, Any]:
    """A file's map, JSON or YAML. Raises ``TemplateError``."""
    if not path.is_file():
        raise TemplateError(f"{where}: {path} is no file")
    content = template_yaml.fragment(path)
    if not isinstance(content, dict):
        raise TemplateError(f"{where}: {path} does not hold a map")
    return content


def with_bodies(expanded: dict[str, Any], source: Source) -> dict[str, Any]:
    """The expanded template, with API documents from files where they are used."""
    resources = dict(expanded["Resources"])
    for name, resource in expanded["Resources"].items():
        properties = resource.get("Properties") or {}
        path = _local(properties.get("BodyS3Location")) if resource["Type"] in _APIS else None
        if path is not None:
            where = f"{source.where(name, 'Properties', 'DefinitionUri')}: {name}.DefinitionUri"
            kept = {key: item for key, item in properties.items() if key != "BodyS3Location"}
            body = document(source.path.parent / path, where)
            resources[name] = {**resource, "Properties": {**kept, "Body": body}}
    return {**expanded, "Resources": resources}


def _local(location: Any) -> str | None:
    if isinstance(location, str):
        return None if "://" in location else location
    if isinstance(location, dict) and location.get("Bucket") == LOCAL_BUCKET:
        return str(location["Key"])
    return None


def left(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """What of the resources is in S3, with the reason why it is not played."""
    for name, resource in resources.items():
        properties = resource.get("Properties") or {}
        if resource["Type"] in _APIS and "BodyS3Location" in properties:
            yield name, f"its document is in S3 ({_said(properties['BodyS3Location'])}), not a file"
        for transform in _transforms(properties):
            macro = transform.get("Name")
            if macro == _NAME:
                location = (transform.get("Parameters") or {}).get("Location")
                yield name, f"{_NAME} of {_said(location)} is in S3; give the path of a file"
            else:
                yield name, f"the macro {macro} is not expanded"


def _transforms(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        transform = value.get(TRANSFORM)
        for each in transform if isinstance(transform, list) else [transform]:
            if isinstance(each, dict):
                yield each
        for item in value.values():
            yield from _transforms(item)
    elif isinstance(value, list):
        for item in value:
            yield from _transforms(item)


def _said(location: Any) -> str:
    if isinstance(location, dict) and "Key" in location:
        return f"s3://{location.get('Bucket')}/{location['Key']}"
    return str(location)
