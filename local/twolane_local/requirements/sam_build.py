"""What ``sam build`` has left in ``.aws-sam``: by its own account of it, ``build.toml``."""

from __future__ import annotations

import platform
import sys
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_MACHINES = {"x86_64": ("x86_64", "amd64"), "arm64": ("arm64", "aarch64")}


@dataclass(frozen=True, slots=True)
class Built:
    """By folder of sources and version of Python, the folder with what it imports."""

    folders: dict[tuple[Path, str], Path]
    at: float = 0.0

    def folder(self, sources: Path, version: str) -> Path | None:
        """That of these sources, where it is newer than they are."""
        found = self.folders.get((sources, version))
        requirements = sources / "requirements.txt"
        if found is None or (requirements.is_file() and requirements.stat().st_mtime > self.at):
            return None
        return found


def read(root: Path) -> Built:
    """Of a project; nothing where there is none, or of what this machine cannot run."""
    folder = root / ".aws-sam" / "build"
    file = root / ".aws-sam" / "build.toml"
    try:
        content = tomllib.loads(file.read_text())
        at = file.stat().st_mtime
    except (OSError, ValueError):
        return Built({})
    found: dict[tuple[Path, str], Path] = {}
    for each in _maps(content, "function_build_definitions"):
        names = each.get("functions") or []
        if names and _fits(each):
            version = str(each.get("runtime", "")).removeprefix("python")
            _add(found, root, each, version, folder / str(names[0]))
    for each in _maps(content, "layer_build_definitions"):
        if _fits(each):
            version = str(each.get("build_method", "")).removeprefix("python")
            _add(found, root, each, version, folder / str(each.get("layer")) / "python")
    return Built(found, at)


def _maps(content: dict[str, Any], section: str) -> list[dict[str, Any]]:
    value = content.get(section)
    values = value.values() if isinstance(value, dict) else ()
    return [each for each in values if isinstance(each, dict)]


def _fits(definition: dict[str, Any]) -> bool:
    """Whether what has been compiled runs here: `sam build` compiles for Linux."""
    machines = _MACHINES.get(str(definition.get("architecture", "x86_64")), ())
    return sys.platform == "linux" and platform.machine().lower() in machines


def _add(
    found: dict[tuple[Path, str], Path],
    root: Path,
    definition: dict[str, Any],
    version: str,
    folder: Path,
) -> None:
    if folder.is_dir():
        found[(root / str(definition.get("codeuri", ""))).resolve(), version] = folder
