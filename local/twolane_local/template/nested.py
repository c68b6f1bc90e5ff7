"""Flattens nested stacks from local files into the template that nests them.

Every name in the child gets the nesting resource's name as a prefix. The child's parameters become
the expressions that the parent passes, and its outputs replace the parent's ``GetAtt``. Before
that, ``with_local_paths`` finds the local files of code and templates with an S3 address.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-nested-stacks.html
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.yaml import read_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.template.yaml import TemplateFile

    #: Takes logical id, resource and the S3 address; returns the local path, if it finds one.
    Lookup = Callable[[str, Mapping[str, Any], Any], Path | None]
    #: Returns the template as written, its expansion and the values of its parameters.
    Expand = Callable[
        [Path, Mapping[str, str]], tuple[TemplateFile, dict[str, Any], dict[str, Any]]
    ]

#: The property with a resource's code, or with the template that it nests.
_PROPERTIES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::Application": "Location",
    "AWS::Lambda::Function": "Code",
    "AWS::Lambda::LayerVersion": "Content",
    "AWS::CloudFormation::Stack": "TemplateURL",
}
#: These take a path as text; the others take a bucket and a key.
_PATH_AS_TEXT = frozenset({"CodeUri", "ContentUri", "Location", "TemplateURL"})
#: The bucket that stands for this machine; the key is a local path.
LOCAL_BUCKET = "twolane-local-path"
#: The templates that ``sam package`` and ``aws cloudformation package`` read, a build first.
_ORIGINALS = (".aws-sam/build/template.yaml", "template.yaml", "template.yml", "template.json")


def with_local_paths(source: TemplateFile) -> dict[str, Any]:
    """Return the content with local paths instead of S3 addresses of files on this machine."""
    content = source.content
    lookups: list[Lookup] | None = None
    changed: dict[str, Any] = {}
    for name, resource in content["Resources"].items():
        kind = resource.get("Type", "") if isinstance(resource, dict) else ""
        key = _PROPERTIES.get(kind)
        properties: Any = resource.get("Properties") if key else None
        value = properties.get(key) if key and isinstance(properties, dict) else None
        if key is None or not _is_remote(value):
            continue
        if lookups is None:
            lookups = [_by_metadata(source.path.parent), *_other_lookups(source)]
        paths = (lookup(name, resource, value) for lookup in lookups)
        path = next((path for path in paths if path is not None), None)
        if path is not None:
            text = str(path.absolute())
            local = text if key in _PATH_AS_TEXT else {"S3Bucket": LOCAL_BUCKET, "S3Key": text}
            changed[name] = {**resource, "Properties": {**properties, key: local}}
    return {**content, "Resources": {**content["Resources"], **changed}} if changed else content


def _is_remote(value: Any) -> bool:
    if isinstance(value, str):
        return "://" in value
    # CDK gives a nested stack's address as an expression. Inline code and images stay as they are.
    return isinstance(value, dict) and not {"ZipFile", "ImageUri", "ApplicationId"} & value.keys()


def _other_lookups(source: TemplateFile) -> Iterator[Lookup]:
    by_key = dict(_files_by_object_key(source.path.parent, source.path))
    if by_key:
        yield lambda _name, _resource, value: by_key.get(_file_name(value))
    for name in _ORIGINALS:
        path = source.path.parent / name
        if path != source.path and path.is_file():
            # A template that cannot be read is skipped: the user did not name it.
            with suppress(TemplateError):
                yield _in_original(path.parent, read_template(path).content)


def _by_metadata(folder: Path) -> Lookup:
    """https://docs.aws.amazon.com/cdk/v2/guide/assets.html"""

    def lookup(_name: str, resource: Mapping[str, Any], _value: Any) -> Path | None:
        metadata = resource.get("Metadata")
        asset = metadata.get("aws:asset:path") if isinstance(metadata, dict) else None
        if not isinstance(asset, str) or not metadata:
            return None
        wanted = metadata.get("aws:asset:property", "Code")
        actual = _PROPERTIES.get(str(resource["Type"]))
        path = folder / asset
        return path if path.exists() and str(wanted).partition(".")[0] == actual else None

    return lookup


def _files_by_object_key(folder: Path, template: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that CDK and the Serverless Framework upload, by the end of the S3 key."""
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
    """Return the last part of an S3 address: text, or a map whose key may be an expression."""
    if isinstance(value, dict):
        value = value.get("S3Key") or value.get("Key") or value
    # An expression ends with the object's name: `.../${AWS::URLSuffix}/bucket/name.json`.
    while isinstance(value, dict | list) and value:
        value = value[-1] if isinstance(value, list) else list(value.values())[-1]
    return _last(str(value))


def _last(text: str) -> str:
    return text.rstrip("/").rpartition("/")[2]


def _in_original(folder: Path, content: Mapping[str, Any]) -> Lookup:
    """Look in the template from which ``sam package`` made this one, with the same resources."""
    shared = (content.get("Globals") or {}).get("Function") or {}

    def lookup(name: str, resource: Mapping[str, Any], _value: Any) -> Path | None:
        twin = content["Resources"].get(name)
        if not isinstance(twin, dict) or twin.get("Type") != resource["Type"]:
            return None
        key = _PROPERTIES[str(twin["Type"])]
        value = (twin.get("Properties") or {}).get(key)
        if value is None and key == "CodeUri":
            value = shared.get(key, ".")
        if not isinstance(value, str) or "://" in value:
            return None
        path = folder / value
        return path if path.exists() else None

    return lookup


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # an unreadable file is treated as a missing one
    return content if isinstance(content, dict) else {}


_STACK = "AWS::CloudFormation::Stack"
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
_MARKER = "twolane-nested-"
#: AWS's only documented limit is 2,000 stacks in an account; each level is a recursion here.
_MAX_LEVELS = 20


def is_parent_expression(value: Any) -> bool:
    """Return whether a parameter's value stands for an expression of the parent stack."""
    return isinstance(value, str) and value.startswith(_MARKER)


def flatten(
    expanded: dict[str, Any],
    source: TemplateFile,
    root: Path,
    expand: Expand,
    above: tuple[Path, ...],
) -> dict[str, Any]:
    """Return the template with the resources of its local nested stacks; others stay, and paths of
    code become relative to ``root``. ``above`` are this file and those it is nested in. Raises
    ``TemplateError`` for a child that is missing, or nests itself.
    """
    folder = source.path.parent
    result = {**expanded, "Resources": dict(expanded["Resources"])}
    for name in expanded["Resources"]:
        # From the result: an earlier stack's outputs may be this stack's parameters.
        resource = result["Resources"][name]
        location = (resource.get("Properties") or {}).get("TemplateURL")
        if resource["Type"] != _STACK or not isinstance(location, str) or "://" in location:
            continue
        path = folder / location
        where = source.where(name, "Properties", "TemplateURL")
        if not path.is_file():
            raise TemplateError(f"{where}: {name}'s template {location!r} is not a file ({path})")
        if path.resolve() in above:
            raise TemplateError(f"{where}: {name}.TemplateURL: the template nests itself")
        if len(above) > _MAX_LEVELS:
            raise TemplateError(f"{where}: {name} is nested more than {_MAX_LEVELS} stacks deep")
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
    """Return the child's sections with the parent's names."""
    given: Mapping[str, Any] = (resource.get("Properties") or {}).get("Parameters") or {}
    # A marker stands for each of the parent's expressions while the child is expanded.
    markers = {
        key: value if isinstance(value, str) else f"{_MARKER}{name}-{key}"
        for key, value in given.items()
    }
    source, expanded, values = expand(path, markers)
    expanded = flatten(expanded, source, root, expand, (*above, path.resolve()))
    by_marker = {marker: given[key] for key, marker in markers.items()}
    rewrite = _Rewrite(name, expanded["Resources"], {**values, **given}, by_marker)
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
    """Return a condition that is true if the stack's and the child's are."""
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
        resources: Mapping[str, Any],
        parameters: Mapping[str, Any],
        by_marker: Mapping[str, Any],
    ) -> None:
        self._prefix = prefix
        self._resources = resources
        self._parameters = parameters
        self._by_marker = by_marker

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._by_marker.get(value, value)
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
    """Return the parent's values with the child's outputs filled in."""
    if isinstance(value, list):
        return [_with_outputs(item, name, outputs) for item in value]
    if not isinstance(value, dict):
        return value
    alone = value if len(value) == 1 else {}  # with other keys beside it, it is not a function
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
                variable = whole.replace(".", "")
                text = text.replace("${" + whole + "}", "${" + variable + "}")
                variables[variable] = _output(name, whole.partition(".")[2], outputs)
        return {"Fn::Sub": [text, variables]}
    return {key: _with_outputs(item, name, outputs) for key, item in value.items()}


def _output(name: str, attribute: str, outputs: Mapping[str, Any]) -> Any:
    try:
        return outputs[attribute.removeprefix("Outputs.")]
    except KeyError:
        raise TemplateError(f"the nested stack {name} has no output {attribute!r}") from None
