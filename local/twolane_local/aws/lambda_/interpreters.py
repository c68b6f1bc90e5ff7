"""Finds the ``pythonX.Y`` on the PATH that a template asks for, and the modules that it lacks.

A function runs in another interpreter only if that finds all modules that the function imports. The
packages of Lambda's runtime are pure Python, so it uses those of our environment.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html

Requirements files are read here, too: the packages that they name, and the remedy for a missing
module.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import preload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twolane_local.model import FunctionSpec


OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
#: The runtime client with its dependencies, and the AWS SDK.
_RUNTIME_PACKAGES = (
    "twolane_local", "awslambdaric", "simplejson", "snapshot_restore_py",
    "boto3", "botocore", "jmespath", "s3transfer", "dateutil", "six", "urllib3",
)  # fmt: skip
#: The oldest version that the runtime client supports.
_OLDEST = (3, 10)
_PATIENCE_S = 10.0
_PROBE = """
import json, sys
from importlib.machinery import PathFinder
functions = json.load(sys.stdin)
known = {*sys.builtin_module_names, *sys.stdlib_module_names}
def missing(names, path):
    return [n for n in names if n not in known and not PathFinder.find_spec(n, path + sys.path)]
print(json.dumps([sys.version_info[:2], [missing(*each) for each in functions]]))
"""


def link_runtime_packages(folder: Path) -> Path:
    """Link the packages of Lambda's runtime into this folder."""
    folder.mkdir(exist_ok=True)
    for name in _RUNTIME_PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue
        origin = Path(found.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        link = folder / source.name
        if not link.exists():
            link.symlink_to(source)
    return folder


def on_path(version: str) -> str | None:
    """The interpreter of this version, ``None`` if there is none or it is ours."""
    found = None if version == OURS else shutil.which(f"python{version}")
    if found is None or Path(found).parent.name != "shims":
        return found
    root = Path(found).parent.parent
    return _of_pyenv(root, version) if (root / "versions").is_dir() else found


def _of_pyenv(root: Path, version: str) -> str | None:
    """The interpreter that pyenv's shim would run; the shim itself takes a tenth of a second.

    https://github.com/pyenv/pyenv#understanding-python-version-selection
    """
    for name in _selected(root):
        if name == "system":
            shims = str(root / "shims")
            others = [each for each in os.get_exec_path() if os.path.normpath(each) != shims]
            found = shutil.which(f"python{version}", path=os.pathsep.join(others))
            if found:
                return found
        folders = [root / "versions" / name, *sorted(root.glob(f"versions/{name}.*"), reverse=True)]
        for folder in folders:
            python = folder / "bin" / f"python{version}"
            if python.is_file():
                return str(python)
    return None


def _selected(root: Path) -> list[str]:
    """The names of the versions that pyenv has selected in this folder."""
    named = os.environ.get("PYENV_VERSION")
    if named:
        return named.split(":")
    here = Path.cwd()
    for file in (
        *(folder / ".python-version" for folder in (here, *here.parents)),
        root / "version",
    ):
        with suppress(OSError):
            lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
            if any(lines):
                return [name for line in lines for name in line.split()]
    return ["system"]


async def missing_modules(
    python: str, version: str, specs: Sequence[FunctionSpec], runtime: Path | None
) -> list[list[str]] | None:
    """The modules that each function would miss in an interpreter.

    Returns ``None`` if the interpreter does not run, is of another version or too old for the
    runtime client. ``runtime`` is a folder with the packages of Lambda's runtime.
    """
    extra = [str(runtime)] if runtime else []
    imports = [[sorted(_imports(spec)), [*map(str, spec.python_path), *extra]] for spec in specs]
    answer = await _probe(python, imports)
    if answer is None:
        return None
    found, missing = answer
    if tuple(found) < _OLDEST or ".".join(map(str, found)) != version:
        return None
    result: list[list[str]] = missing
    return result


def _imports(spec: FunctionSpec) -> set[str]:
    folders = [folder for folder in spec.python_path if folder not in spec.packages]
    names = preload.modules(spec.handler, folders, never=frozenset())
    return {name.partition(".")[0] for name in names} - {""}


async def _probe(python: str, imports: Any) -> Any:
    try:
        process = await asyncio.create_subprocess_exec(
            python, "-c", _PROBE, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            output, _ = await process.communicate(json.dumps(imports).encode())
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return None
    try:
        return json.loads(output) if process.returncode == 0 else None
    except ValueError:
        return None


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
