"""The runtime against the versions that it supports, and Celery's own suite against each minor.

``make matrix`` makes an environment for each row of ``ROWS`` under ``build/matrix``, runs the tests
of the runtime in it, and Celery's integration suite of the same release, from its source
distribution. It writes each row that it ran into the table of docs/compatibility.md. Hours on a
small machine: ``--only NAME`` runs one row.

``--canary`` installs the newest of everything, pre-releases included and our bounds left out, and
says which patches no longer find what they replace. Exit status: 0 if all is as expected, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "matrix"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- versions -->\n", "<!-- end of versions -->"

#: What the table shows of an environment.
SHOWN = ("celery", "kombu", "redis", "fastapi", "starlette", "pydantic", "mangum", "awslambdaric")

#: The oldest release of each that the bounds of the two distributions allow, and of what comes with
#: them. redis-py 4.5.0 is withdrawn.
OLDEST = {
    "awslambdaric": "4.0.0",
    "billiard": "4.2.0",
    "boto3": "1.34.0",
    "celery": "5.4.0",
    "fastapi": "0.100.0",
    "kombu": "5.4.0",
    "mangum": "0.19.0",
    "pydantic": "2.0.3",
    "redis": "4.5.1",
}


@dataclass(frozen=True)
class Row:
    """One environment. ``suite``: Celery's own tests run in it, too."""

    name: str
    python: str
    pins: tuple[str, ...] = ()
    suite: bool = False


ROWS = (
    Row("oldest", "3.11", tuple(f"{name}=={version}" for name, version in OLDEST.items())),
    # kombu is the newest that the release allows, as pip installs it.
    Row("Celery 5.4", "3.11", ("celery==5.4.*",), suite=True),
    Row("Celery 5.5", "3.12", ("celery==5.5.*",), suite=True),
    Row("Celery 5.6", "3.13", ("celery==5.6.*", "kombu==5.6.*"), suite=True),
    Row("Celery 5.7", "3.13", ("celery==5.7.*",), suite=True),
    Row("Python 3.14", "3.14"),
)

#: The suite's own settings do not know redis-py 8.
SUITE = ("kombu[sqs]", "redis<8")


class MatrixError(Exception):
    """Something that the run needs is not there."""


def run(arguments: Sequence[object], log: Path | None = None, **options: object) -> int:
    """The exit status; what is said goes to ``log``, else to the terminal."""
    command = [str(argument) for argument in arguments]
    if log is None:
        return subprocess.run(command, check=False, **options).returncode  # type: ignore[call-overload, no-any-return]
    with log.open("w") as out:
        return subprocess.run(command, check=False, stdout=out, stderr=out, **options).returncode  # type: ignore[call-overload, no-any-return]


def environment(name: str, version: str, requirements: Sequence[str]) -> Path:
    """Make an environment anew, by uv if it is on the PATH; its interpreter."""
    python = python_of(version)
    if python is None:
        raise MatrixError(f"{name}: there is no Python {version} on the PATH")
    folder = BUILD / re.sub(r"[^\w.]+", "-", name.lower())
    shutil.rmtree(folder, ignore_errors=True)
    interpreter = folder / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        made = run([uv, "venv", "--quiet", "--python", python, folder])
        install = [uv, "pip", "install", "--quiet", "--python", interpreter]
    else:
        made = run([python, "-m", "venv", folder])
        install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        made = made or run([*install, "pip>=25.1"])
    if made or run([*install, *requirements], cwd=ROOT):
        raise MatrixError(f"{name}: the environment could not be made, see above")
    return interpreter


def python_of(version: str) -> Path | None:
    """An interpreter of this version: of the PATH, or one that pyenv keeps."""
    name = f"python{version}"
    folders = [Path(folder) for folder in os.get_exec_path()]
    if "PYENV_ROOT" in os.environ:
        kept = Path(os.environ["PYENV_ROOT"], "versions").glob(f"{version}.*/bin")
        folders += sorted(kept)
    for folder in folders:
        found = folder / name
        if os.access(found, os.X_OK) and not run([found, "-c", ""], Path(os.devnull)):
            return found  # a shim of pyenv's may lead nowhere
    return None


def versions(interpreter: Path) -> dict[str, str]:
    code = (
        "import json, platform; from importlib import metadata; "
        "print(json.dumps({'python': platform.python_version()} | "
        "{d.name.lower(): d.version for d in metadata.distributions()}))"
    )
    said = subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(said.stdout)
    return found


def runtime_tests(row: Row, interpreter: Path, tests: Sequence[str]) -> str:
    """Run the runtime's tests; the counts, as the table shows them."""
    log = BUILD / f"{interpreter.parent.parent.name}.txt"
    command = [interpreter, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    status = run([*command, "-m", "not slow", *tests], log, cwd=ROOT)
    found = re.search(r"^=*\s*((?:\d+ \w+(?:, )?)+) in [\d.]+s", log.read_text(), re.MULTILINE)
    counts = found[1] if found else f"ended with status {status}"
    print(f"{row.name}: {counts} ({log.relative_to(ROOT)})", flush=True)
    return counts


def celery_suite(row: Row, celery: str) -> str:
    """Run Celery's own integration tests of this release on our worker; what the plugin counted."""
    name = f"{row.name} suite"
    wanted = (ROOT / "tests" / "celery_suite" / "requirements.txt").read_text().split("\n")
    needs = [line for line in wanted if line and not line.startswith("#")]
    local = ["-e", ".", "-e", "./local"]
    # A virtual environment of its own: the suite brings plugins that ours would have to know.
    interpreter = environment(name, row.python, [*local, f"celery=={celery}", *SUITE, *needs])
    source = BUILD / "source"
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    run([*fetch, "--no-deps", "--no-binary", "celery", "-d", source, f"celery=={celery}"])
    archive = source / f"celery-{celery}.tar.gz"
    if not archive.is_file():
        raise MatrixError(f"{name}: the source distribution of Celery {celery} did not come")
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "celery_suite")}
    environ["PATH"] = f"{interpreter.parent}{os.pathsep}{environ['PATH']}"
    log = BUILD / f"{interpreter.parent.parent.name}.txt"
    plugins = ["-p", "celery.contrib.pytest", "-p", "plugin", "-p", "no:cacheprovider"]
    # Native tracebacks: Python 3.11 cannot parse a source from as deep as one of the tests goes.
    options = ["-q", "--tb", "native", "--timeout", "300", *plugins]
    command = [interpreter, "-m", "pytest", *options, "t/integration"]
    status = run(command, log, cwd=source / f"celery-{celery}", env=environ)
    found = re.search(r"^\d+ passed, \d+ did not, \d+ were skipped$", log.read_text(), re.MULTILINE)
    counts = found[0] if found and not status else f"failed; see {log.relative_to(ROOT)}"
    print(f"{name}: {counts}", flush=True)
    return counts


def line_of(row: Row, found: Mapping[str, str], tests: str, suite: str) -> str:
    cells = [row.name, found["python"], *(found.get(name, "-") for name in SHOWN), tests, suite]
    return f"| {' | '.join(cells)} |"


def written(text: str, lines: Mapping[str, str]) -> str:
    """The page with these rows in its table, each in its place; the others stay."""
    head, _, rest = text.partition(BEGIN)
    table, end, tail = rest.partition(END)
    if not end:
        raise MatrixError(f"{PAGE.name} has no {BEGIN.strip()} … {END}")
    kept = {name: line for line in table.splitlines()[3:] if (name := row_name(line))}
    rows = kept | lines
    titles = ["", "Python", "Celery", "kombu", "redis-py", "FastAPI", "Starlette", "pydantic"]
    titles += ["Mangum", "awslambdaric", "the runtime's tests", "Celery's own suite"]
    made = [f"| {' | '.join(titles)} |".replace("|  |", "| |"), "|---" * len(titles) + "|"]
    made += [rows[row.name] for row in ROWS if row.name in rows]
    return head + BEGIN + "\n" + "\n".join(made) + "\n\n" + END + tail


def row_name(line: str) -> str:
    return line.split("|")[1].strip() if line.startswith("| ") else ""


def requirements(*, bounded: bool) -> list[str]:
    """What both distributions and the tests need, by name."""
    found = []
    for file in ("pyproject.toml", "local/pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text())
        found += project["project"]["dependencies"]
        for group in ("app", "test"):
            found += [
                one for one in project.get("dependency-groups", {}).get(group, ())
                if isinstance(one, str)
            ]  # fmt: skip
    if not bounded:
        found = [re.sub(r"^([^<>=~!;]+)[^;]*", r"\1", one) for one in found]
    return [one for one in found if not re.match(r"twolane\b", one)]


def broken_patches(interpreter: Path) -> Iterator[str]:
    """A sentence for each patch, in the order of the catalogues, that lost what it replaces."""
    sys.path[:0] = [str(ROOT / "handlers"), str(ROOT / "local")]
    from twolane.patches.catalogue import ENTRIES as RUNTIME
    from twolane_local.patches import ENTRIES as LOCAL

    program = ROOT / "tests" / "twolane" / "patches" / "shape.py"
    for tree, entries in (("twolane", RUNTIME), ("twolane_local", LOCAL)):
        newest = json.loads((ROOT / "tests" / tree / "patches" / "shapes.json").read_text())
        places = [place for entry in entries for place in entry.places]
        said = subprocess.run(
            [interpreter, "-W", "ignore", program],
            input=json.dumps(places), capture_output=True, text=True, check=True,
        )  # fmt: skip
        shapes = json.loads(said.stdout)
        for entry in entries:
            for place in entry.places:
                if shapes[place] != newest[place]:
                    yield (
                        f"{entry.name} ({entry.user}): {place} was {newest[place]}, "
                        f"is {shapes[place]}"
                    )


def canary(python: str, tests: Sequence[str]) -> int:
    pre = "--prerelease=allow" if shutil.which("uv") else "--pre"
    interpreter = environment("canary", python, [pre, *requirements(bounded=False)])
    uv = shutil.which("uv")
    install = [uv, "pip", "install", "--quiet", "--python", interpreter] if uv else [
        interpreter, "-m", "pip", "install", "--quiet"
    ]  # fmt: skip
    if run([*install, "--no-deps", "-e", ".", "-e", "./local"], cwd=ROOT):
        raise MatrixError("canary: our own distributions could not be installed")
    found = versions(interpreter)
    shown = (*SHOWN, "billiard", "botocore", "moto", "fakeredis")
    print(", ".join(f"{name} {found.get(name, 'none')}" for name in ("python", *shown)))
    broken = list(broken_patches(interpreter))
    for sentence in broken:
        print(f"! {sentence}")
    if not broken:
        print("each patch finds what it replaces")
    counts = runtime_tests(Row("canary", python), interpreter, tests)
    return int(bool(broken) or "failed" in counts or "passed" not in counts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS])
    parser.add_argument("--canary", action="store_true", help="the newest of everything")
    parser.add_argument("--python", default="3.13", help="the canary's (default: 3.13)")
    parser.add_argument("--no-suite", action="store_true", help="without Celery's own tests")
    parser.add_argument("tests", nargs="*", default=["tests/twolane"])
    chosen = parser.parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        if chosen.canary:
            return canary(chosen.python, chosen.tests)
        return matrix(chosen)
    except MatrixError as error:
        print(f"! {error}", file=sys.stderr)
        return 1


def matrix(chosen: argparse.Namespace) -> int:
    good = True
    for row in ROWS:
        if chosen.only and row.name not in chosen.only:
            continue
        if python_of(row.python) is None:
            print(f"! {row.name}: no Python {row.python} here; the row is left as it is")
            good = good and row.python == "3.14"
            continue
        needs = ["-e", ".", "-e", "./local", "--group", "test", *row.pins]
        interpreter = environment(row.name, row.python, needs)
        found = versions(interpreter)
        tests = runtime_tests(row, interpreter, chosen.tests)
        suite = "-"
        if row.suite and not chosen.no_suite:
            suite = celery_suite(row, found["celery"])
        good = good and "passed" in tests and "failed" not in tests and "error" not in tests
        good = good and not suite.startswith("failed")
        if chosen.tests == ["tests/twolane"]:
            PAGE.write_text(
                written(PAGE.read_text(), {row.name: line_of(row, found, tests, suite)})
            )
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
