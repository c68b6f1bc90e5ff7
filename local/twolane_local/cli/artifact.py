"""``twolane artifact``

`sam build` leaves sources and nothing compiled, and Lambda cannot keep what it compiles: each cold
start would compile every module anew. Tracebacks name the files as they are on Lambda, and each
function's folder comes out the same, byte for byte, so that `sam deploy` uploads one for all.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane_local.aws.lambda_ import interpreters
from twolane_local.cli import exits
from twolane_local.cli.flags import json_flag
from twolane_local.cli.text import print_found, progress
from twolane_local.errors import LocalError
from twolane_local.template.yaml import read_template

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FLAGS = ()
EXAMPLES = (
    "twolane artifact",
    "twolane artifact --python python3.13 .aws-sam/build",
    "twolane artifact package/",
)


class Needless(NamedTuple):
    """A package that is needless if no other module imports it than those of ``users``.

    ``users`` are beginnings of paths. ``through`` is a package whose import by another module than
    those of ``through_users`` makes it needed, too.
    """

    name: str
    users: tuple[str, ...] = ()
    through: str = ""
    through_users: tuple[str, ...] = ()

    def is_needless(self, sources: Iterable[tuple[str, str]]) -> bool:
        """``sources`` are the paths and texts of all modules."""
        return not any(
            _imports(text, self.name, path, self.users)
            or (self.through and _imports(text, self.through, path, self.through_users))
            for path, text in sources
        )


def _imports(text: str, package: str, path: str, users: tuple[str, ...]) -> bool:
    """Whether a module imports it, at its start or later, by a statement or by its name as text."""
    if package not in text or path.startswith((f"{package}/", *users)):
        return False
    name = re.escape(package)
    statement = rf"^\s*(?:from|import)\s+(?:[\w.]+\s*,\s*)*{name}\b"
    return re.search(rf"{statement}|[\"']{name}(?:\.[\w.]+)?[\"']", text, re.MULTILINE) is not None


#: Celery's command line, a fifth of the artifact; and what asks the DNS whether an address's domain
#: exists, which pydantic never does:
#: https://docs.pydantic.dev/latest/api/networks/#pydantic.networks.validate_email
NEEDLESS = (
    Needless("click_didyoumean", ("celery/bin/",)),
    Needless("click_plugins", ("celery/bin/",)),
    Needless("click_repl", ("celery/bin/",)),
    Needless("prompt_toolkit"),
    Needless("wcwidth"),
    Needless(
        "dns", ("email_validator/",), "email_validator", ("pydantic/", "fastapi/openapi/models.py")
    ),
)
#: Kept, but left uncompiled: nothing that serves an event imports it.
RARELY_IMPORTED = r"/(dns|celery/bin|celery/contrib(?!/django))/"

#: Run by the functions' own Python, with a folder, where Lambda has it, and what to pass over.
_COMPILE = """
import compileall, importlib.util, pathlib, py_compile, re, sys
folder, place, rare = pathlib.Path(sys.argv[1]), sys.argv[2], re.compile(sys.argv[3])
# Never checked against the sources (PEP 552): deploying changes the files' times.
compileall.compile_dir(
    str(folder), quiet=2, force=True, rx=rare, stripdir=str(folder), prependdir=place,
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
)
sources = [path for path in folder.rglob("*.py") if not rare.search(str(path))]
made = [path for path in sources if pathlib.Path(importlib.util.cache_from_source(path)).is_file()]
print(len(made), *sorted(str(path.relative_to(folder)) for path in {*sources} - {*made}), sep="\\n")
"""
#: Runtimes and code of these types; a layer is unpacked elsewhere:
#: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
_CODE = {
    "AWS::Serverless::Function": ("CodeUri", "/var/task"),
    "AWS::Lambda::Function": ("Code", "/var/task"),
    "AWS::Serverless::LayerVersion": ("ContentUri", "/opt"),
    "AWS::Lambda::LayerVersion": ("Content", "/opt"),
}
_NESTED = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}
_EXTENSION = re.compile(r"\.cpython-(\d)(\d+)-[^/]*\.so$")
_RUNTIME = re.compile(r"python(\d+\.\d+)")


@dataclass(slots=True)
class Built:
    """A folder of code, with its ``place`` on Lambda and the Python that the template names."""

    folder: Path
    place: str
    runtime: str | None
    left_out: dict[str, int] = field(default_factory=dict)
    compiled: int = 0
    uncompiled: list[str] = field(default_factory=list)
    python: str = ""

    @property
    def size(self) -> int:
        return _size(self.folder)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(".aws-sam/build"), metavar="BUILD_DIR",
        help="what `sam build` made (default: .aws-sam/build), or one function's code",
    )  # fmt: skip
    parser.add_argument(
        "--python", metavar="PYTHON",
        help="the functions' interpreter (default: pythonX.Y from the PATH, X.Y as the packages "
        "in the folder or the template say)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="append", default=[], metavar="PACKAGE",
        help=f"leave this one in, of {', '.join(each.name for each in NEEDLESS)}; repeatable",
    )  # fmt: skip
    json_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Leave out what no function imports, and compile the rest for where Lambda unpacks it."""
    built = list(find(options.folder))
    pythons = {one.folder: _interpreter(one, options.python) for one in built}
    with progress("compiling …") as note:
        leave_out(built, options.keep)
        for one in built:
            note(f"{one.folder.name} …")
            one.python, interpreter = pythons[one.folder]
            _compile(one, interpreter)
    found = [
        {
            "folder": str(one.folder), "python": one.python, "bytes": one.size,
            "left_out": one.left_out, "compiled": one.compiled, "uncompiled": one.uncompiled,
        }
        for one in built
    ]  # fmt: skip
    print_found(options, {"functions": found}, lambda _: _text(built))
    return exits.DONE


def _text(built: list[Built]) -> str:
    lines = []
    for one in built:
        size = f"{one.size / 1e6:.1f} MB unzipped, {one.compiled:,} modules compiled"
        left = f"{sum(one.left_out.values()) / 1e6:.1f} MB left out: {', '.join(one.left_out)}"
        more = f"; {left}" if one.left_out else ""
        lines.append(f"{one.folder.name}: Python {one.python}, {size}{more}")
        if one.uncompiled:
            names = ", ".join(one.uncompiled[:3])
            lines.append(f"! Python cannot compile {len(one.uncompiled)} of its files: {names}")
    return "\n".join(lines)


def find(folder: Path) -> Iterator[Built]:
    """The folders of Python code, as the template in the folder names them, or the folder itself.

    Raises ``LocalError`` where there is none.
    """
    if not folder.is_dir():
        raise LocalError(f"{folder} is not there: run `sam build` first, or name the folder")
    template = folder / "template.yaml"
    if template.is_file():
        found = {one.folder: one for one in _of_template(template)}
    else:
        found = {folder: Built(folder, "/var/task", None)}
    code = [one for one in found.values() if next(one.folder.rglob("*.py"), None)]
    if not code:
        raise LocalError(
            f"{folder} holds no Python code that was built: run `sam build`, then this with the "
            "folder that it names as its build artifacts"
        )
    yield from code


def _of_template(path: Path) -> Iterator[Built]:
    content = read_template(path).content
    default = (content.get("Globals") or {}).get("Function") or {}
    for resource in (content.get("Resources") or {}).values():
        properties = resource.get("Properties") or {}
        kind = resource.get("Type")
        if kind in _NESTED and isinstance(nested := properties.get(_NESTED[kind]), str):
            if (path.parent / nested).is_file():
                yield from _of_template(path.parent / nested)
        elif kind in _CODE:
            name, place = _CODE[kind]
            code = properties.get(name, default.get(name))
            runtime = _runtime(content, properties.get("Runtime", default.get("Runtime")))
            foreign = runtime is not None and _RUNTIME.fullmatch(runtime) is None
            if isinstance(code, str) and (path.parent / code).is_dir() and not foreign:
                yield Built((path.parent / code).resolve(), place, runtime)


def _runtime(content: Mapping[str, Any], value: Any) -> str | None:
    """The text of a ``Runtime``, which may be a parameter with a default."""
    if isinstance(value, dict) and isinstance(name := value.get("Ref"), str):
        value = ((content.get("Parameters") or {}).get(name) or {}).get("Default")
    return value if isinstance(value, str) else None


def _interpreter(built: Built, given: str | None) -> tuple[str, str]:
    """The version of the functions' Python, and its path."""
    extensions = {
        f"{match[1]}.{match[2]}": path
        for path in built.folder.rglob("*.so")
        if (match := _EXTENSION.search(path.name))
    }
    runtime = _RUNTIME.fullmatch(built.runtime or "")
    wanted = runtime[1] if runtime else None
    if extensions and wanted not in extensions:
        wanted = next(iter(extensions))
    if given is not None:
        version = _version(given)
        if extensions and version not in extensions:
            raise LocalError(
                f"{built.folder.name} holds {extensions[str(wanted)].name}, and {given} is Python "
                f"{version}, whose compiled modules its functions would ignore: give "
                f"--python python{wanted}, or build it for the other one"
            )
        return version, given
    if wanted is None:
        raise LocalError(
            f"nothing in {built.folder} says for which Python it is: give --python python3.13, or "
            "whichever the function's Runtime is"
        )
    if wanted == interpreters.OURS:
        return wanted, sys.executable
    found = interpreters.on_path(wanted)
    if found is None:
        raise LocalError(
            f"{built.folder.name} is for Python {wanted}, and there is no python{wanted} on the "
            "PATH: install it, or name it with --python"
        )
    return wanted, found


def _version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalError(f"--python: {python} does not run: {error}") from error
    return done.stdout.strip()


def leave_out(built: Sequence[Built], keep: Sequence[str]) -> None:
    """Remove what only code that no function runs imports, with its metadata.

    All folders are looked at before anything is removed from one: a function imports from layers.
    """
    sources = {
        path: (path.relative_to(one.folder).as_posix().removeprefix("python/"), path.read_text())
        for one in built
        for path in one.folder.rglob("*.py")
        if _is_text(path)
    }
    for package in NEEDLESS:
        if package.name in keep or not package.is_needless(sources.values()):
            continue
        for one in built:
            for root in (one.folder, one.folder / "python"):  # a layer has it in the second
                if not (root / package.name / "__init__.py").is_file():
                    continue
                records = _metadata(root, package.name)
                gone = [root / package.name, *(record.parent for record in records)]
                one.left_out[package.name] = sum(_size(each) for each in gone)
                for each in gone:
                    shutil.rmtree(each)
                (root / f"{package.name}.py").unlink(missing_ok=True)  # a single file before
        sources = {path: source for path, source in sources.items() if path.exists()}


def _is_text(path: Path) -> bool:
    try:
        path.read_text()
    except UnicodeDecodeError:
        return False  # no module of Python 3
    return True


def _metadata(folder: Path, package: str) -> Iterator[Path]:
    """The record of the distribution that brought the package."""
    for path in folder.glob("*.dist-info/RECORD"):
        if f"\n{package}/__init__.py," in f"\n{path.read_text()}":
            yield path


def _compile(built: Built, python: str) -> None:
    done = subprocess.run(
        [python, "-I", "-S", "-c", _COMPILE, built.folder, built.place, RARELY_IMPORTED],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:]
        raise LocalError(f"{python} could not compile {built.folder.name}: {said}")
    made, *built.uncompiled = done.stdout.splitlines()
    built.compiled = int(made)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
