"""Nested stacks from local files, flattened into the template that nests them.

Every name of the child gets the nesting resource's name in front; the child's parameters become the
expressions that the parent gives, its outputs what the parent's ``GetAtt`` stands for.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-nested-stacks.html
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import yaml as template_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.template.yaml import Source

    Look = Callable[[str, Mapping[str, Any], Any], Path | None]
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Expand = Callable[[Path, Mapping[str, str]], tuple[Source, dict[str, Any], dict[str, Any]]]


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


_STACK = "AWS::CloudFormation::Stack"
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
_STAND_IN = "twolane-nested-"
#: AWS documents no limit but 2,000 stacks for an account; each one here is a level of recursion.
_MOST_LEVELS = 20


def is_stand_in(value: Any) -> bool:
    """Whether a parameter's value stands for an expression of the parent, to be put in later."""
    return isinstance(value, str) and value.startswith(_STAND_IN)


def flatten(
    expanded: dict[str, Any], source: Source, root: Path, expand: Expand, above: tuple[Path, ...]
) -> dict[str, Any]:
    """The template without nested stacks from local files; others stay as they are.

    Paths of code are made relative to ``root``; ``above`` are the files that this is nested in, and
    itself. Raises ``TemplateError`` for a child that is not there, or never ends.
    """
    folder = source.path.parent
    result = {**expanded, "Resources": dict(expanded["Resources"])}
    for name in expanded["Resources"]:
        # As it is by now: what a stack before it puts out may be what this one is given.
        resource = result["Resources"][name]
        location = (resource.get("Properties") or {}).get("TemplateURL")
        if resource["Type"] != _STACK or not isinstance(location, str) or "://" in location:
            continue
        path = folder / location
        where = source.where(name, "Properties", "TemplateURL")
        if not path.is_file():
            raise TemplateError(f"{where}: {name}'s template {location!r} is no file ({path})")
        if path.resolve() in above:
            raise TemplateError(f"{where}: {name}.TemplateURL: the template nests itself")
        if len(above) > _MOST_LEVELS:
            raise TemplateError(f"{where}: {name} is nested more than {_MOST_LEVELS} stacks deep")
        try:
            child = _child(name, resource, path, root, expand, above=above)
            del result["Resources"][name]
            result = _with_outputs(result, name, child.pop("Outputs"))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateError(
                f"{where}: {name}: a reference in the nested stack, or beside it, does not have "
                f"the form that CloudFormation takes ({error!r:.100})"
            ) from error
        for section in ("Resources", "Conditions", "Mappings"):
            result[section] = {**(result.get(section) or {}), **child[section]}
    return result


def _child(
    name: str,
    resource: Mapping[str, Any],
    path: Path,
    root: Path,
    expand: Expand,
    *,
    above: tuple[Path, ...],
) -> dict[str, Any]:
    """The child's sections, in the parent's names."""
    given: Mapping[str, Any] = (resource.get("Properties") or {}).get("Parameters") or {}
    # What is an expression in the parent travels through the child's expansion under a stand-in.
    stand_ins = {
        key: value if isinstance(value, str) else f"{_STAND_IN}{name}-{key}"
        for key, value in given.items()
    }
    source, expanded, values = expand(path, stand_ins)
    expanded = flatten(expanded, source, root, expand, (*above, path.resolve()))
    rewrite = _Rewrite(name, expanded, {**values, **given}, stand_ins, given)
    condition = resource.get("Condition")
    resources = {}
    for key, item in expanded["Resources"].items():
        moved = rewrite(_with_path(item, path.parent, root))
        if "Condition" in item:
            moved["Condition"] = name + item["Condition"]
        elif condition is not None:
            moved["Condition"] = condition
        if "DependsOn" in item:
            before = item["DependsOn"]
            moved["DependsOn"] = [
                name + each for each in ([before] if isinstance(before, str) else before)
            ]
        resources[name + key] = moved
    return {
        "Resources": resources,
        "Conditions": {
            name + key: _both(condition, rewrite(item))
            for key, item in (expanded.get("Conditions") or {}).items()
        },
        "Mappings": {name + key: item for key, item in (expanded.get("Mappings") or {}).items()},
        "Outputs": {
            key: rewrite(item["Value"]) for key, item in (expanded.get("Outputs") or {}).items()
        },
    }


def _both(outer: str | None, inner: Any) -> Any:
    """A child's condition holds only where its whole stack is wanted."""
    return inner if outer is None else {"Fn::And": [{"Condition": outer}, inner]}


def _with_path(resource: Mapping[str, Any], folder: Path, root: Path) -> dict[str, Any]:
    properties = dict(resource.get("Properties") or {})
    for key in ("Code", "Content"):
        code = properties.get(key)
        if isinstance(code, dict) and code.get("S3Bucket") == LOCAL_BUCKET:
            moved = os.path.relpath(folder / str(code["S3Key"]), root)
            properties[key] = {**code, "S3Key": moved}
    return {**resource, "Properties": properties}


class _Rewrite:
    """Puts the parent's names and expressions into a child's values."""

    def __init__(
        self,
        prefix: str,
        child: Mapping[str, Any],
        parameters: Mapping[str, Any],
        stand_ins: Mapping[str, str],
        given: Mapping[str, Any],
    ) -> None:
        self._prefix = prefix
        self._resources = child["Resources"]
        self._parameters = parameters
        self._given = {stand_in: given[key] for key, stand_in in stand_ins.items()}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._given.get(value, value)
        if isinstance(value, list):
            return [self(item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            special = getattr(self, "_" + name.rpartition("::")[2].lower(), None)
            if special is not None and (name.startswith("Fn::") or name in {"Ref", "Condition"}):
                return special(argument)
        return {key: self(item) for key, item in value.items()}

    def _ref(self, name: str) -> Any:
        if name in self._parameters:
            return self._parameters[name]
        return {"Ref": self._prefix + name if name in self._resources else name}

    def _condition(self, name: Any) -> Any:
        return {"Condition": self._prefix + name if isinstance(name, str) else self(name)}

    def _if(self, argument: list[Any]) -> Any:
        return {"Fn::If": [self._prefix + argument[0], *map(self, argument[1:])]}

    def _findinmap(self, argument: list[Any]) -> Any:
        return {"Fn::FindInMap": [self._prefix + argument[0], *map(self, argument[1:])]}

    def _getatt(self, argument: Any) -> Any:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        return {"Fn::GetAtt": [self._prefix + name, self(attribute)]}

    def _sub(self, argument: Any) -> Any:
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        found = {key: self(item) for key, item in variables.items()}

        def name(match: re.Match[str]) -> str:
            whole = match.group(1).strip()
            head = whole.partition(".")[0]
            if whole in found:
                return match.group(0)
            if whole in self._parameters:
                found[whole] = self._parameters[whole]
                return match.group(0)
            return "${" + (self._prefix if head in self._resources else "") + whole + "}"

        text = _VARIABLE.sub(name, text)
        return {"Fn::Sub": [text, found]}


def _with_outputs(value: Any, name: str, outputs: Mapping[str, Any]) -> Any:
    """The parent's values with the child's outputs in place."""
    if isinstance(value, list):
        return [_with_outputs(item, name, outputs) for item in value]
    if not isinstance(value, dict):
        return value
    alone = value if len(value) == 1 else {}  # beside other keys it is no function
    target = alone.get("Fn::GetAtt")
    if target is not None:
        nested, attribute = target.split(".", 1) if isinstance(target, str) else target
        if nested == name:
            return _output(name, attribute, outputs)
    text = alone.get("Fn::Sub")
    if text is not None:
        text, variables = (text, {}) if isinstance(text, str) else text
        variables = _with_outputs(dict(variables), name, outputs)
        for whole in _VARIABLE.findall(text):
            if whole.startswith(f"{name}.Outputs."):
                stand_in = whole.replace(".", "")
                text = text.replace("${" + whole + "}", "${" + stand_in + "}")
                variables[stand_in] = _output(name, whole.partition(".")[2], outputs)
        return {"Fn::Sub": [text, variables]}
    return {key: _with_outputs(item, name, outputs) for key, item in value.items()}


def _output(name: str, attribute: str, outputs: Mapping[str, Any]) -> Any:
    try:
        return outputs[attribute.removeprefix("Outputs.")]
    except KeyError:
        raise TemplateError(f"the nested stack {name} has no output {attribute!r}") from None
