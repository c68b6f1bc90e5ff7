"""The file systems of functions: which folder plays each.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-filesystem.html
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twolane_local.model import FunctionSpec
    from twolane_local.template import Template
    from twolane_local.template.names import Names


class FileSystems:
    """One folder below ``root()`` for each file system; access points lead to what is below it."""

    def __init__(self, template: Template, names: Names, root: Callable[[], Path]) -> None:
        self._root = root
        self._points: dict[str, Path] = {}
        for logical_id, resource in template.resources.items():
            if resource["Type"] == "AWS::EFS::AccessPoint":
                properties = names.resolve(resource.get("Properties") or {})
                below = (properties.get("RootDirectory") or {}).get("Path") or "/"
                place = Path(_last(properties["FileSystemId"]), *_parts(below))
                self._points[str(names.attribute(logical_id, "Arn"))] = place

    def of(self, configs: Iterable[Mapping[str, Any]]) -> dict[str, Path]:
        """By its path in the function. The folders are made."""
        found = {}
        for config in configs:
            arn = str(config["Arn"])
            folder = self._root() / self._points.get(arn, Path(_last(arn)))
            folder.mkdir(parents=True, exist_ok=True)
            found[str(config["LocalMountPath"])] = folder
        return found


def mountable(
    specs: tuple[FunctionSpec, ...], prevented: str | None
) -> tuple[tuple[FunctionSpec, ...], list[str]]:
    """The functions with what can be mounted, and a line for each file system that cannot.

    ``prevented`` says why none can; ``None`` has this machine asked.
    """
    if not any(spec.file_systems for spec in specs):
        return specs, []
    why = mounts.prevented() if prevented is None else prevented
    without = {spec.name for spec in specs if why or spec.program}
    notes = [
        f"{spec.where}: {spec.logical_id}'s file system at {path} is not mounted: "
        f"{why or 'an OS-only runtime gets none'}; a folder of that name takes its place"
        for spec in specs
        if spec.name in without
        for path in spec.file_systems
    ]
    return tuple(
        replace(spec, file_systems={}) if spec.name in without else spec for spec in specs
    ), notes


def _last(text: Any) -> str:
    return str(text).rpartition("/")[2]


def _parts(path: Any) -> list[str]:
    return [part for part in str(path).split("/") if part not in {"", ".", ".."}]
