"""What ships: the built artifact's size and files, and what each function imports of it.

`sam build` and `twolane artifact` build it for the running Python, into a temporary folder; with
``--build-dir`` one that is there already is read instead, and with ``--as-built`` what `sam build`
left, to compare. Rates of compression are zip's; an import is taken in processor time.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _table import Row, absent, parser, report, row

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FUNCTIONS = {"ApiFunction": "app.api", "WorkerFunction": "app.worker", "BeatFunction": "app.beat"}
#: Must not be in it, whatever it is packed as.
FOREIGN = ("twolane_local", "tests", "docs", "benchmarks", "infra", "boto3", "botocore", "moto")
#: Packages that no handler's import may bring in.
HEAVY = {"boto3", "botocore", "moto", "prompt_toolkit", "uvicorn"}
#: Prints the seconds of processor time that importing a handler takes: as on Lambda, where nothing
#: that is compiled can be kept.
SPENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
began = time.process_time()
__import__(sys.argv[2])
print(time.process_time() - began)
"""
ROUNDS = 5
#: ``MODULE``: prints what importing it has loaded, as JSON.
IMPORT = """
import json, sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
__import__(sys.argv[2])
files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
print(json.dumps({name: file for name, file in files.items() if name not in before and file}))
"""


def build(folder: Path) -> Path | None:
    """The finished artifact, or ``None`` where no `sam` is at hand."""
    places = f"{ROOT / '.venv-sam' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    sam = shutil.which("sam", path=places)
    if sam is None:
        return None
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "bin").mkdir()
    (folder / "bin" / python).symlink_to(Path(sys.base_prefix) / "bin" / python)
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    subprocess.run(
        [
            sam, "build", "--build-dir", folder / "out", "--cache-dir", folder / "cache",
            "--parameter-overrides", f"Runtime={python} Architecture={machine}",
        ],
        cwd=ROOT, check=True, capture_output=True,
        env={
            **os.environ, "SAM_CLI_TELEMETRY": "0",
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        },
    )  # fmt: skip
    shutil.copytree(folder / "out", folder / "as-built", symlinks=True)
    finish(folder / "out")
    return folder / "out"


def finish(folder: Path) -> None:
    command = [sys.executable, "-m", "twolane_local.cli", "artifact", "--python", sys.executable]
    subprocess.run([*command, folder], check=True, capture_output=True)


def files(folder: Path) -> list[Path]:
    """Every file of a function's folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def megabytes(paths: list[Path]) -> float:
    """Their sizes, in 10^6 bytes."""
    return sum(path.stat().st_size for path in paths) / 1e6


def zipped(folder: Path, into: Path) -> float:
    """What is uploaded, in 10^6 bytes."""
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files(folder):
            archive.write(path, path.relative_to(folder))
    return into.stat().st_size / 1e6


def imported(folder: Path, module: str) -> dict[str, Any]:
    """Modules that importing the handler loads, with their files; nothing else is on the path."""
    return dict(json.loads(run(IMPORT, folder, module)))


def run(program: str, folder: Path, module: str) -> str:
    """The last line that a program prints of a handler's module."""
    environ = {
        "TASK_QUEUE_URL": "http://127.0.0.1:9/123456789012/tasks",
        "RESULT_BACKEND": "redis://127.0.0.1:9/0",
    }
    done = subprocess.run(
        [sys.executable, "-B", "-I", "-S", "-c", program, folder, module],
        env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.splitlines()[-1]


def saved(as_built: Path, built: Path) -> Iterator[Row]:
    """What `twolane artifact` saves of what `sam build` leaves: its bytes, and an import's time."""
    before, after = files(as_built / "ApiFunction"), files(built / "ApiFunction")
    sources = [path for path in after if path.suffix != ".pyc"]
    yield row("as `sam build` leaves it", megabytes(before), "MB")
    yield row("  of it left out", megabytes(before) - megabytes(sources), "MB", ">= 5")
    for function, module in FUNCTIONS.items():
        spent: dict[Path, list[float]] = {as_built: [], built: []}
        for _ in range(ROUNDS):
            for folder, times in spent.items():
                times.append(float(run(SPENT, folder / function, module)))
        one, other = (statistics.median(times) for times in spent.values())
        yield row(f"{module}: import, as `sam build` leaves it", 1000 * one, "ms")
        yield row(f"{module}: import, finished", 1000 * other, "ms")
        yield row(f"{module}: ratio", other / one, "x", "<= 0.6")


def rows(built: Path, folder: Path) -> Iterator[Row]:
    """What is to be said of it."""
    first = built / "ApiFunction"
    everything = files(first)
    compiled = [path for path in everything if path.suffix == ".pyc"]
    sources = [path for path in everything if path.suffix == ".py"]
    yield row("unzipped, without boto3", megabytes(everything), "MB", "<= 35")
    yield row("  of it compiled modules", megabytes(compiled), "MB")
    yield row("zipped", zipped(first, folder / "artifact.zip"), "MB", "<= 50")
    yield row("files", len(everything), "files")
    yield row("sources compiled", 100 * len(compiled) / len(sources), "%", ">= 80")
    own = [path for path in sources if path.relative_to(first).parts[0] in {"app", "twolane"}]
    lacking = [path for path in own if not _compiled(path).is_file()]
    yield row("of app and twolane, not compiled", len(lacking), "files", "<= 0")
    foreign = [path for path in everything if path.relative_to(first).parts[0] in FOREIGN]
    yield row("of twolane_local, tests, docs, boto3 …", len(foreign), "files", "<= 0")
    trees = {
        tuple(sorted((str(path.relative_to(built / name)), path.read_bytes()) for path in
                     files(built / name)))
        for name in FUNCTIONS
    }  # fmt: skip
    yield row("different artifacts of three functions", len(trees), "", "<= 1")
    for function, module in FUNCTIONS.items():
        loaded = imported(built / function, module)
        own_files = [Path(file) for file in loaded.values() if file.startswith(str(built))]
        uncompiled = [
            path for path in own_files if path.suffix == ".py" and not _compiled(path).is_file()
        ]
        tops = {name.partition(".")[0] for name, file in loaded.items() if str(built) in file}
        yield row(f"{module}: modules imported", len(loaded), "modules")
        yield row(f"{module}: distributions' packages", len(tops), "packages")
        yield row(f"{module}: imported without a .pyc", len(uncompiled), "modules", "<= 0")
        heavy = sorted(HEAVY & tops)
        yield row(f"{module}: heavy ones among them", len(heavy), "packages", "<= 0")


def _compiled(source: Path) -> Path:
    tag = sys.implementation.cache_tag
    return source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


def main() -> int:
    """0 if every target holds."""
    flags = parser(__doc__)
    flags.add_argument("--build-dir", type=Path, help="a finished build to read")
    flags.add_argument("--as-built", type=Path, help="the same as `sam build` left it")
    flags.add_argument("--graph", action="store_true", help="print what each function imports")
    given = flags.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = given.build_dir.resolve() if given.build_dir else build(folder)
        if built is None:
            reason = "no `sam` on the PATH or in .venv-sam: run `make build`"
            found = [absent("unzipped, without boto3", "MB", reason)]
        else:
            as_built = given.as_built.resolve() if given.as_built else folder / "as-built"
            found = list(rows(built, folder))
            if as_built.is_dir():
                found += saved(as_built, built)
        if built is not None and given.graph:
            graph(built)
        report("Artifact", found, as_json=given.json)
    return int(any(each.holds is False for each in found))


def graph(built: Path) -> None:
    """Of each function, the packages that its handler imports, with how many modules of each."""
    for function, module in FUNCTIONS.items():
        counts: dict[str, int] = {}
        for name, file in imported(built / function, module).items():
            if file.startswith(str(built)):
                top = name.partition(".")[0]
                counts[top] = counts.get(top, 0) + 1
        ranked = sorted(counts.items(), key=lambda pair: -pair[1])
        print(f"\n{module}:", ", ".join(f"{top} {count}" for top, count in ranked))


if __name__ == "__main__":
    sys.exit(main())
