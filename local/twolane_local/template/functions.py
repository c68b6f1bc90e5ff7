"""Reads the Lambda functions and layers of an expanded template.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import target_of
from twolane_local.aws.lambda_.code import ArchiveError
from twolane_local.aws.lambda_.resources import specification, why_unrunnable
from twolane_local.errors import TemplateError
from twolane_local.model import LATEST, LayerSpec
from twolane_local.template import code_location
from twolane_local.template.nested import LOCAL_BUCKET
from twolane_local.template.parameters import as_text
from twolane_local.template.shape import check_function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from twolane_local.aws.lambda_.code import UnpackedCode
    from twolane_local.model import FunctionSpec
    from twolane_local.template import Template
    from twolane_local.template.names import Names
    from twolane_local.template.sources import FileSystems
    from twolane_local.template.yaml import Notes


def read_functions(
    template: Template,
    names: Names,
    all_layers: Layers,
    file_systems: FileSystems,
    notes: Notes,
) -> Iterator[FunctionSpec]:
    """Yield every function, also those that cannot run on this machine."""
    root = template.source.path.resolve().parent
    invoke_configs = _event_invoke_configs(template, names)
    qualifiers = _qualifiers(template, names)
    for logical_id, raw in template.of_type("AWS::Lambda::Function"):
        properties = names.resolve(dict(raw))
        code = code_location(properties.get("Code") or {})
        check_function({**properties, "Code": code})
        why = _unrunnable(properties, code)
        if why:
            notes.cannot_run(logical_id, why)
            code_dir, made_of = root, None
        else:
            code_dir, made_of = _code_dir(template, logical_id, code, root, all_layers.unpacked)
        name = names.name(logical_id)
        layers = all_layers.of(logical_id, properties.get("Layers") or ())
        variables = (properties.get("Environment") or {}).get("Variables") or {}
        properties["Environment"] = {
            "Variables": {key: as_text(value) for key, value in variables.items()}
        }
        yield replace(
            specification(name, properties, code_dir, layers, logical_id=logical_id),
            made_of=made_of,
            unrunnable=why or "",
            where=template.source.where(logical_id),
            file_systems=file_systems.of(properties.get("FileSystemConfigs") or ()),
            event_invoke=invoke_configs.get((name, LATEST), {}),
            qualified_invoke={
                each: config
                for (of, each), config in invoke_configs.items()
                if of == name and each != LATEST
            },
            qualifiers=qualifiers.get(name, ()),
            snap_start=bool(
                qualifiers.get(name)
                and (properties.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions"
            ),
        )


def _unrunnable(properties: Mapping[str, Any], code: Mapping[str, Any]) -> str | None:
    image = {"PackageType": "Image"} if "ImageUri" in code else {}
    if why := why_unrunnable({**properties, **image}):
        return why
    if "ZipFile" not in code and code.get("S3Bucket") != LOCAL_BUCKET:
        return "its code is not a path on this machine"
    return None


def _code_dir(
    template: Template, logical_id: str, code: Mapping[str, Any], root: Path, unpacked: UnpackedCode
) -> tuple[Path, Path | None]:
    """Return the folder with the code, and the file that it is made from."""
    where = template.source.where(logical_id)
    if "ZipFile" in code:
        try:
            return unpacked.inline(logical_id, str(code["ZipFile"])), template.source.path
        except OSError as error:
            raise TemplateError(f"{where}: {logical_id}'s code cannot be kept: {error}") from error
    path = (root / str(code["S3Key"])).resolve()
    if path.is_file():
        try:
            return unpacked.archive(logical_id, path), path
        except ArchiveError as error:
            raise TemplateError(f"{where}: {logical_id}'s code {path} {error}") from error
    return path, None if path.is_dir() else path


def _qualifiers(template: Template, names: Names) -> dict[str, tuple[str, ...]]:
    """Return the aliases and versions of each function; the current code is version 1.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-alias.html
    """
    found: dict[str, tuple[str, ...]] = {}
    for logical_id, resource in template.resources.items():
        if resource["Type"] in {"AWS::Lambda::Version", "AWS::Lambda::Alias"}:
            function, _, qualifier = str(names.ref(logical_id)).rpartition(":")
            name = function.rpartition(":")[2]
            found[name] = (*found.get(name, ()), qualifier)
    return found


def _event_invoke_configs(template: Template, names: Names) -> dict[tuple[str, str], Any]:
    """Return the configurations by function and qualifier."""
    found: dict[tuple[str, str], Any] = {}
    for _, raw in template.of_type("AWS::Lambda::EventInvokeConfig"):
        properties = names.resolve(dict(raw))
        name, _, qualifier = target_of(str(properties["FunctionName"])).partition(":")
        found[name, str(properties.get("Qualifier") or qualifier or LATEST)] = properties
    return found


def read_permissions(template: Template, names: Names) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the target and the properties of each permission; its id is the logical id."""
    for logical_id, raw in template.of_type("AWS::Lambda::Permission"):
        properties = names.resolve(dict(raw))
        yield (
            target_of(str(properties.get("FunctionName", ""))),
            {"StatementId": logical_id, "Principal": "*", "Action": "lambda:*", **properties},
        )


class Layers:
    """The template's layers by ARN."""

    def __init__(
        self, template: Template, names: Names, unpacked: UnpackedCode, notes: Notes
    ) -> None:
        self._template = template
        self.unpacked = unpacked
        self._notes = notes
        self._root = template.source.path.resolve().parent
        self._found: dict[str, LayerSpec] = {}
        self._reported: set[str] = set()
        for logical_id, raw in template.of_type("AWS::Lambda::LayerVersion"):
            properties = names.resolve(dict(raw))
            content = code_location(properties.get("Content") or {})
            layer = self._read(LayerSpec(str(names.ref(logical_id))), logical_id, content)
            if layer is not None:
                self._found[layer.arn] = replace(layer, properties=properties)

    def __iter__(self) -> Iterator[LayerSpec]:
        return iter(self._found.values())

    def of(self, logical_id: str, arns: Sequence[Any]) -> list[LayerSpec]:
        """Return a function's layers in the template's order; a missing one is noted once."""
        found: list[LayerSpec] = []
        for arn in map(str, arns):
            if arn in self._found:
                found.append(self._found[arn])
            elif arn not in self._reported:
                self._reported.add(arn)
                self._notes.remark(
                    logical_id, f"its layer {arn} is not on this machine: its packages must be "
                    "installed beside twolane",
                )  # fmt: skip
        return found

    def _read(
        self, layer: LayerSpec, logical_id: str, content: Mapping[str, Any]
    ) -> LayerSpec | None:
        if content.get("S3Bucket") != LOCAL_BUCKET:
            return None  # noted when a function uses it
        path = (self._root / str(content["S3Key"])).resolve()
        where = self._template.source.where(logical_id)
        if path.is_file():
            try:
                folder = self.unpacked.archive(logical_id, path)
                return replace(layer, folder=folder, archive=path)
            except ArchiveError as error:
                raise TemplateError(f"{where}: {logical_id}'s content {path} {error}") from error
        if not path.exists():
            self._notes.remark(logical_id, f"there is no {path}")
        # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/building-layers.html
        metadata = self._template.resources[logical_id].get("Metadata") or {}
        method = str(content.get("S3ObjectVersion") or metadata.get("BuildMethod") or "")
        if not method:
            return replace(layer, folder=path)
        if not method.startswith("python"):
            self._notes.remark(
                logical_id, f"its BuildMethod {method!r} is not run; its folder is used"
            )
            return replace(layer, folder=path)
        return replace(layer, sources=path)
