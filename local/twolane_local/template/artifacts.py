"""Code that a compiled template has in S3: where it is on this machine.

Tools write templates whose code was, or will be, uploaded. The files are still here: CDK's assets
in its ``cdk.out``, the Serverless Framework's archive in ``.serverless``, and what ``sam package``
was given stands in the template beside it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import yaml as template_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.template.yaml import Source

    #: A resource, its name and the property's value to the file or folder.
    Look = Callable[[str, Mapping[str, Any], Any], Path | None]

#: Where a resource has its code, or the template that it nests.
PROPERTIES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::Application": "Location",
    "AWS::Lambda::Function": "Code",
    "AWS::Lambda::LayerVersion": "Content",
    "AWS::CloudFormation::Stack": "TemplateURL",
}
#: They take a path as text; the others have a bucket and a key.
_TEXT = frozenset({"CodeUri", "ContentUri", "Location", "TemplateURL"})
#: Stands for "a path on this machine" in S3's form; the key is the path.
LOCAL_BUCKET = "twolane-local-path"
#: Beside what ``sam package`` and ``aws cloudformation package`` write; a build knows best.
_SIBLINGS = (".aws-sam/build/template.yaml", "template.yaml", "template.yml", "template.json")


def located(source: Source) -> dict[str, Any]:
    """The content with local paths for what stands for code in S3 and is here."""
    content = source.content
    looks: list[Look] | None = None
    made: dict[str, Any] = {}
    for name, resource in content["Resources"].items():
        kind = resource.get("Type", "") if isinstance(resource, dict) else ""
        key = PROPERTIES.get(kind)
        properties: Any = resource.get("Properties") if key else None
        value = properties.get(key) if key and isinstance(properties, dict) else None
        if key is None or not _is_remote(value):
            continue
        if looks is None:
            looks = [_by_metadata(source.path.parent), *_looks(source)]
        paths = (look(name, resource, value) for look in looks)
        path = next((path for path in paths if path is not None), None)
        if path is not None:
            text = str(path.absolute())
            local = text if key in _TEXT else {"S3Bucket": LOCAL_BUCKET, "S3Key": text}
            made[name] = {**resource, "Properties": {**properties, key: local}}
    return {**content, "Resources": {**content["Resources"], **made}} if made else content


def _is_remote(value: Any) -> bool:
    if isinstance(value, str):
        return "://" in value
    # Of a nested stack, CDK's is an expression; inline code and images are what they are.
    return isinstance(value, dict) and not {"ZipFile", "ImageUri", "ApplicationId"} & value.keys()


def _looks(source: Source) -> Iterator[Look]:
    by_key = dict(_by_object_key(source.path.parent, source.path))
    if by_key:
        yield lambda _name, _resource, value: by_key.get(_file_name(value))
    yield from _by_siblings(source.path)


def _by_metadata(folder: Path) -> Look:
    """https://docs.aws.amazon.com/cdk/v2/guide/assets.html"""

    def look(_name: str, resource: Mapping[str, Any], _value: Any) -> Path | None:
        metadata = resource.get("Metadata")
        asset = metadata.get("aws:asset:path") if isinstance(metadata, dict) else None
        if not isinstance(asset, str) or not metadata:
            return None
        wanted = metadata.get("aws:asset:property", "Code")
        here = PROPERTIES.get(str(resource["Type"]))
        path = folder / asset
        return path if path.exists() and str(wanted).partition(".")[0] == here else None

    return look


def _by_object_key(folder: Path, template: Path) -> Iterator[tuple[str, Path]]:
    """By the last part of the object's key: what CDK and the Serverless Framework would upload."""
    name = template.name.removesuffix(".json").removesuffix(".template").removesuffix(".nested")
    for file in [folder / f"{name}.assets.json", *sorted(folder.glob("*.assets.json"))]:
        for asset in (_json(file).get("files") or {}).values():
            path = folder / str((asset.get("source") or {}).get("path"))
            for destination in (asset.get("destinations") or {}).values():
                yield _last(str(destination.get("objectKey"))), path
    if folder.name == ".serverless":
        yield from ((path.name, path) for path in folder.glob("*.zip"))
        service = _json(folder / "serverless-state.json").get("service") or {}
        for function in (service.get("functions") or {}).values():
            artifact = (function.get("package") or {}).get("artifact")
            if artifact and (folder.parent / artifact).exists():
                yield _last(str(artifact)), folder.parent / artifact


def _file_name(value: Any) -> str:
    """The last part of an address in S3: text, or a map whose key may be an expression."""
    if isinstance(value, dict):
        value = value.get("S3Key") or value.get("Key") or value
    # An expression ends with the object's name: `.../${AWS::URLSuffix}/bucket/name.json`.
    while isinstance(value, dict | list) and value:
        value = value[-1] if isinstance(value, list) else list(value.values())[-1]
    return _last(str(value))


def _last(text: str) -> str:
    return text.rstrip("/").rpartition("/")[2]


def _by_siblings(template: Path) -> Iterator[Look]:
    """What ``sam package`` wrote has the resources of the template that it was given."""
    for name in _SIBLINGS:
        path = template.parent / name
        if path == template or not path.is_file():
            continue
        try:
            yield _sibling(path.parent, template_yaml.read(path).content)
        except TemplateError:
            continue  # it is not the one that was asked for


def _sibling(folder: Path, content: Mapping[str, Any]) -> Look:
    shared = (content.get("Globals") or {}).get("Function") or {}

    def look(name: str, resource: Mapping[str, Any], _value: Any) -> Path | None:
        twin = content["Resources"].get(name)
        if not isinstance(twin, dict) or twin.get("Type") != resource["Type"]:
            return None
        key = PROPERTIES[str(twin["Type"])]
        value = (twin.get("Properties") or {}).get(key)
        if value is None and key == "CodeUri":
            value = shared.get(key, ".")
        if not isinstance(value, str) or "://" in value:
            return None
        path = folder / value
        return path if path.exists() else None

    return look


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # a template without it is as good as one whose file cannot be read
    return content if isinstance(content, dict) else {}
