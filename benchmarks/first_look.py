"""The first look: from ``make up`` to the first 200, and from a POST to its task's SUCCESS.

First a fresh checkout on a machine that has nothing of it: what ``make up`` runs, in an environment
of its own, with nothing cached; how many packages it installs, and how large they are, as much of
it compiled as the first start has compiled. ``--no-install`` leaves that out.

Each round is a fresh start of the repository's own application, with a warm file cache and the
template expanded before, as on every start but a checkout's first. Then a template of 60 functions
and 40 queues: until ``twolane up`` says that it is up, and what it uses once nothing happens any
more. Medians of several rounds. With ``--against PYTHON``, the interpreter of another checkout,
each round is run by both in turns, and each of its figures stands beside ours as a ratio.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _large
from _processes import cpu_s, memory_mb
from _table import Row, parser, report, row

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
ROUNDS, LARGE_ROUNDS = 5, 3
IDLE_S = 10.0
INSTALL = (
    ("make up, fresh machine, to the first 200", "s", None),
    ("  of it installing", "s", None),
    ("  packages, pip among them", "", "<= 60"),
    ("  environment", "MB", "<= 150"),
)
#: Name, unit and target of each figure.
OWN = (
    ("twolane up to the first 200", "s", "<= 1.5"),
    ("POST to SUCCESS, first task", "s", None),
    ("POST to SUCCESS, next task", "s", None),
)
LARGE = (
    ("60 functions, 40 queues: up", "s", "<= 8"),
    ("the first request", "s", None),
    ("all functions seen to load", "s", None),
    ("idle: processor", "%", "<= 1"),
    ("idle: memory", "MB", None),
)


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@contextmanager
def up(
    python: str, folder: Path, environ: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``twolane up`` there, and its API's address."""
    process = subprocess.Popen(
        [python, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--port", "0",
         "--aws-port", "0"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["api"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def install(checkout: Path) -> tuple[float, ...]:
    """As ``INSTALL`` says, of the commit that is checked out there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkout"
        subprocess.run(["git", "clone", "-q", checkout, folder], check=True)
        environ = {
            **os.environ, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "XDG_CACHE_HOME": name, "XDG_RUNTIME_DIR": name,
        }  # fmt: skip
        environ.pop("VIRTUAL_ENV", None)
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        make = ["make", "--dry-run", "up", "VENV=.venv", f"PYTHON={base}"]
        steps = subprocess.run(
            make, cwd=folder, env=environ, check=True, capture_output=True, text=True
        ).stdout
        *before, start = steps.splitlines()
        assert start == ".venv/bin/twolane up", start
        began = time.perf_counter()
        for step in before:
            subprocess.run(
                step, shell=True, cwd=folder, env=environ, check=True, stderr=subprocess.DEVNULL
            )
        installed = time.perf_counter() - began
        python = str(folder / ".venv" / "bin" / "python")
        with up(python, folder, environ) as (_, api):
            call(f"{api}/healthz")
            first = time.perf_counter() - began
            deferred(api)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "freeze"],
            check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        size = sum(
            path.stat().st_size
            for path in (folder / ".venv").rglob("*")
            if path.is_file() and not path.is_symlink()
        )
        return first, installed, len(listed), size / 1e6


def own(python: str) -> tuple[float, ...]:
    """Seconds: start to first 200; POST to SUCCESS, cold; the same, warm."""
    began = time.perf_counter()
    with up(python, ROOT) as (_, api):
        call(f"{api}/healthz")
        first = time.perf_counter() - began
        return first, deferred(api), deferred(api)


def large(python: str, folder: Path) -> tuple[float, ...]:
    """As ``LARGE`` says."""
    began = time.perf_counter()
    with up(python, folder) as (process, api):
        ready = time.perf_counter() - began
        call(f"{api}/{_large.QUEUES}")
        first = time.perf_counter() - began - ready
        used = cpu_s(process.pid)
        while True:  # a second without work: nothing is loaded any more
            time.sleep(1)
            before, used = used, cpu_s(process.pid)
            if used - before < 0.05:
                break
        checked = time.perf_counter() - began
        time.sleep(IDLE_S)
        share = (cpu_s(process.pid) - used) / IDLE_S * 100
        return ready, first, checked, share, memory_mb(process.pid)


def deferred(api: str) -> float:
    """Seconds from the POST to the state SUCCESS, asked for every 5 ms."""
    began = time.perf_counter()
    body = {"email": "user@example.com", "message": "hello"}
    task = call(f"{api}/notify/deferred", body)["id"]
    while call(f"{api}/tasks/{task}")["state"] != "SUCCESS":
        if time.perf_counter() - began > 60:
            raise SystemExit("the task did not succeed within a minute")
        time.sleep(0.005)
    return time.perf_counter() - began


def figures(
    names: tuple[tuple[str, str, str | None], ...],
    rounds: list[tuple[float, ...]],
    others: list[tuple[float, ...]],
) -> Iterator[Row]:
    """Medians; where there are others, as ratios to theirs as well."""
    columns = [statistics.median(column) for column in zip(*rounds, strict=True)]
    beside = [statistics.median(column) for column in zip(*others, strict=True)]
    for index, (name, unit, target) in enumerate(names):
        yield row(name, columns[index], unit, target)
        if beside:
            yield row(f"{name}, the other", beside[index], unit)
            if beside[index]:
                yield row(f"{name}, ratio", columns[index] / beside[index], "x")


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--against", metavar="PYTHON", help="another checkout's interpreter")
    flags.add_argument("--no-install", action="store_true", help="leave out the fresh machine")
    flags.add_argument("--only-install", action="store_true", help="leave out all else")
    options = flags.parse_args()
    pythons = [sys.executable, *([options.against] if options.against else [])]
    fresh: list[Row] = []
    if not options.no_install:
        checkouts = [ROOT, *(Path(each).absolute().parents[2] for each in pythons[1:])]
        found_fresh = [[install(checkout)] for checkout in checkouts]
        fresh = list(figures(INSTALL, found_fresh[0], found_fresh[1] if options.against else []))
    rest = [] if options.only_install else started(pythons, options.against)
    report("First look", [*fresh, *rest], as_json=options.json)


def started(pythons: list[str], against: str | None) -> list[Row]:
    """The figures of starts in environments that are there."""
    found: dict[str, tuple[list[tuple[float, ...]], list[tuple[float, ...]]]] = {
        python: ([], []) for python in pythons
    }
    with tempfile.TemporaryDirectory() as folder:
        _large.write(Path(folder))
        for python in pythons:  # fills the caches of files and of the templates
            own(python)
            with up(python, Path(folder)):
                pass
        for _ in range(ROUNDS):
            for python in pythons:
                found[python][0].append(own(python))
        for _ in range(LARGE_ROUNDS):
            for python in pythons:
                found[python][1].append(large(python, Path(folder)))
    other = found[against] if against else ([], [])
    return [
        *figures(OWN, found[sys.executable][0], other[0]),
        *figures(LARGE, found[sys.executable][1], other[1]),
    ]


if __name__ == "__main__":
    main()
