"""Maps the file systems of functions to folders on this machine.

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
    """The folders of file systems, below ``root()``; access points lead to folders in them."""

    def __init__(self, template: Template, names: Names, root: Callable[[], Path]) -> None:
        self._root = root
        self._points: dict[str, Path] = {}
        for logical_id, raw in template.of_type("AWS::EFS::AccessPoint"):
            properties = names.resolve(dict(raw))
            path = str((properties.get("RootDirectory") or {}).get("Path") or "/")
            parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
            folder = Path(_last(properties["FileSystemId"]), *parts)
            self._points[str(names.attribute(logical_id, "Arn"))] = folder

    def of(self, configs: Iterable[Mapping[str, Any]]) -> dict[str, Path]:
        """Create the folders of a function, and return them by their paths in it."""
        found = {}
        for config in configs:
            arn = str(config["Arn"])
            folder = self._root() / self._points.get(arn, Path(_last(arn)))
            folder.mkdir(parents=True, exist_ok=True)
            found[str(config["LocalMountPath"])] = folder
        return found


def with_mountable(
    specs: tuple[FunctionSpec, ...], prevented: str | None
) -> tuple[tuple[FunctionSpec, ...], list[str]]:
    """Return the functions with what can be mounted, and a line for each file system that cannot.

    ``prevented`` is why none can be mounted; with ``None``, this machine is checked.
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
