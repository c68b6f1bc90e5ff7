"""Reads requirements files: the packages that they name, and the remedy for a missing module."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.model import FunctionSpec

_MISSING = re.compile(r"No module named '([^'.]+)")
#: A name, or the file of a wheel: https://packaging.python.org/en/latest/specifications/dependency-specifiers/
_NAME = re.compile(r"\s*(?:\S*/([A-Za-z0-9_.]+)-[^/\s]+\.whl|([A-Za-z0-9][A-Za-z0-9._-]*))")
#: https://pip.pypa.io/en/stable/reference/requirements-file-format/
_PATH = re.compile(
    r"(?:\S+\s*@\s*)?(?:file:(?://)?)?((?:\.{1,2}|/)\S*?)(?:\[[^\]]*\])?\s*(?:[;#]|$)"
)
#: Files that an installation creates, or that do not belong to the package.
_MADE = re.compile(r"__pycache__|build|.*\.egg-info|\.git|\.venv|\.aws-sam|node_modules")
_INCLUDED = re.compile(r"\s*(?:-r|--requirement)[\s=]+(\S+)")
#: Packages whose name is not that of the module, with or without the prefix "python-" or "py".
_PACKAGES = {
    "attr": "attrs", "bs4": "beautifulsoup4", "crypto": "pycryptodome", "cv2": "opencv-python",
    "pil": "pillow", "psycopg2": "psycopg2-binary", "sklearn": "scikit-learn",
}  # fmt: skip


def with_included(file: Path) -> list[Path]:
    """A requirements file and those that it includes."""
    found: list[Path] = []
    waiting = [file]
    while waiting:
        one = waiting.pop(0)
        if one in found or not one.is_file():
            continue
        found.append(one)
        for line in _lines(one):
            included = _INCLUDED.match(line)
            if included:
                waiting.append(one.parent / included[1])
    return found


def local_package_files(file: Path) -> list[Path]:
    """The files of the packages that a requirements file names by a path on this machine."""
    found: list[Path] = []
    for one in with_included(file):
        for line in _lines(one):
            match = _PATH.match(line)
            path = one.parent / match[1] if match else one.parent
            if match and path.is_file():
                found.append(path)
            elif match and path.is_dir():
                found += sorted(each for each in path.rglob("*") if each.is_file())
    return [each for each in found if not any(_MADE.fullmatch(part) for part in each.parts)]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _canonical(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_package_of(file: Path, module: str) -> bool:
    """True if the requirements name the package of a module, judged by its name."""
    name = _canonical(module)
    wanted = {name, f"python-{name}", f"py{name}", f"{name}-binary", _PACKAGES.get(name, name)}
    return any(
        (match := _NAME.match(line)) is not None and _canonical(match[1] or match[2]) in wanted
        for one in with_included(file)
        for line in _lines(one)
    )


def missing_package_remedy(spec: FunctionSpec, failure: bytes) -> str:
    """The remedy for an init that failed because a package is missing, else an empty text."""
    try:
        message = str(json.loads(failure).get("errorMessage", ""))
    except (ValueError, AttributeError):
        return ""
    match = _MISSING.search(message)
    own = spec.handler.replace("/", ".").partition(".")[0]
    if match is None or match[1] == own:
        return ""
    module = match[1]
    searched = [file for file in spec.requirements if file.is_file()]
    for file in searched:
        if names_package_of(file, module):
            return f"{file} names {module}: `twolane up --build` installs it"
    where = f" ({', '.join(map(str, searched))})" if searched else ""
    first = next(iter(spec.requirements), None)
    remedy = f"; name it in {first}, and `twolane up --build` installs it" if first else ""
    return f"no requirements file{where} names {module}{remedy}"
