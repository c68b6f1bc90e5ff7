"""The Lambda functions of an expanded template.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.invoke import LATEST, target_of
from twolane_local.model import FunctionSpec
from twolane_local.stack.layers import Layers
from twolane_local.stack.limits import check_function
from twolane_local.template import LOCAL_BUCKET, code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.stack.names import Names
    from twolane_local.stack.packages import Packages
    from twolane_local.template import Template


def functions(
    template: Template,
    names: Names,
    packages: Packages,
    cannot_run: Callable[[str, str], None],
    remark: Callable[[str, str], None],
) -> Iterator[FunctionSpec]:
    """Every function; ``cannot_run(logical_id, why)`` hears of those that fail on this machine,
    ``remark`` of layers that are not here.
    """
    root = template.source.path.resolve().parent
    invoke_configs = _event_invoke_configs(template, names)
    layers = Layers(template, names, packages, remark)
    qualifiers = _qualifiers(template, names)
    for logical_id, resource in template.resources.items():
        if resource["Type"] != "AWS::Lambda::Function":
            continue
        properties = names.resolve(resource.get("Properties") or {})
        code = code_of(properties.get("Code") or {})
        check_function({**properties, "Code": code})
        why = _unrunnable(properties, code)
        if why:
            cannot_run(logical_id, why)
            code_dir, made_of = root, None
        else:
            code_dir, made_of = _code_dir(template, logical_id, code, root, packages)
        name = names.name(logical_id)
        above = layers.of(logical_id, properties.get("Layers") or ())
        yield FunctionSpec(
            name=name,
            logical_id=logical_id,
            handler=str(properties.get("Handler", "bootstrap")),
            code_dir=code_dir,
            made_of=made_of,
            unrunnable=why or "",
            where=template.source.where(logical_id),
            runtime=str(properties.get("Runtime", "")),
            timeout_s=float(properties.get("Timeout", 3)),
            memory_mb=int(properties.get("MemorySize", 128)),
            environment={
                key: _text(value)
                for key, value in (
                    (properties.get("Environment") or {}).get("Variables") or {}
                ).items()
            },
            layer_dirs=tuple(each.folder for each in above if each.folder),
            layer_sources=tuple(each.sources for each in above if each.sources),
            archives=tuple(each.archive for each in above if each.archive),
            reserved_concurrency=(
                int(properties["ReservedConcurrentExecutions"])
                if "ReservedConcurrentExecutions" in properties
                else None
            ),
            event_invoke=invoke_configs.get((name, LATEST), {}),
            qualified_invoke={
                each: config
                for (of, each), config in invoke_configs.items()
                if of == name and each != LATEST
            },
            log_format=str((properties.get("LoggingConfig") or {}).get("LogFormat", "Text")),
            recursive_loop=str(properties.get("RecursiveLoop", "Terminate")),
            qualifiers=qualifiers.get(name, ()),
            snap_start=bool(
                qualifiers.get(name)
                and (properties.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions"
            ),
            dead_letter_arn=(properties.get("DeadLetterConfig") or {}).get("TargetArn"),
        )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unrunnable(properties: Mapping[str, Any], code: Mapping[str, Any]) -> str | None:
    if properties.get("PackageType") == "Image" or "ImageUri" in code:
        return "it is a container image, and those are not run"
    runtime = str(properties.get("Runtime", ""))
    if not runtime.startswith(("python", "provided")):
        return f"runtime {runtime or 'missing'!r} is neither Python nor OS-only"
    if "ZipFile" not in code and code.get("S3Bucket") != LOCAL_BUCKET:
        return "its code is not a path on this machine"
    return None


def _code_dir(
    template: Template, logical_id: str, code: Mapping[str, Any], root: Path, packages: Packages
) -> tuple[Path, Path | None]:
    """The folder with the code, and the file that it is made of."""
    where = template.source.where(logical_id)
    if "ZipFile" in code:
        try:
            return packages.inline(logical_id, str(code["ZipFile"])), template.source.path
        except OSError as error:
            raise TemplateError(f"{where}: {logical_id}'s code cannot be kept: {error}") from error
    path = (root / str(code["S3Key"])).resolve()
    if path.is_file():
        try:
            return packages.unpacked(logical_id, path), path
        except TemplateError as error:
            raise TemplateError(f"{where}: {logical_id}'s code {path} {error}") from error
    return path, None if path.is_dir() else path


def _qualifiers(template: Template, names: Names) -> dict[str, tuple[str, ...]]:
    """By function, its aliases and versions: its version 1 is what there is now.

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
    """By function and qualifier."""
    found: dict[tuple[str, str], Any] = {}
    for resource in template.resources.values():
        if resource["Type"] == "AWS::Lambda::EventInvokeConfig":
            properties = names.resolve(resource.get("Properties") or {})
            name, _, qualifier = target_of(str(properties["FunctionName"])).partition(":")
            found[name, str(properties.get("Qualifier") or qualifier or LATEST)] = properties
    return found
