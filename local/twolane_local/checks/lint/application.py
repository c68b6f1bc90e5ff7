"""Reads the Celery application of a function.

A child process imports the handler's module with the function's environment, because two functions
may both call their package ``app``. Only modules that name an adapter for Celery are imported;
their tasks and handlers are not called. Where there are such modules, those of ``ApiHandler`` are
imported, too: an API publishes to what its own variables say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.guard import function_environment
from twolane_local.errors import HandlerImportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twolane_local.model import FunctionSpec

ADAPTERS = ("WorkerHandler", "BeatHandler")
API = "ApiHandler"
#: Nothing listens on this port: an import must not need AWS.
_NOWHERE = "http://127.0.0.1:9"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Task:
    """One task. Limits are in seconds; ``queue_url`` is the configured one; ``awaits``: it is an
    ``async def`` task.
    """

    name: str
    queue: str
    queue_url: str | None
    hard_limit_s: float | None
    soft_limit_s: float | None
    file: Path | None
    line: int
    awaits: bool = False

    @property
    def worst_s(self) -> float | None:
        """The longest time that it may run; ``None`` without a limit."""
        return self.hard_limit_s or self.soft_limit_s


@dataclass(frozen=True, slots=True)
class BeatEntry:
    """One entry of ``beat_schedule``."""

    name: str
    task: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting that does not go with SQS, as ``twolane.publish.application`` finds it; ``import``
    for an API's module that does not import here.
    """

    kind: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Application:
    """The application of one function; ``adapter`` is the class of its handler. Of an API, tasks
    and entries are left out.
    """

    adapter: str
    app: str
    broker: str
    tasks: tuple[Task, ...]
    entries: tuple[BeatEntry, ...]
    #: The timeouts that the application sets for its Redis, by setting, in seconds.
    store_limits: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def load(specs: Iterable[FunctionSpec]) -> dict[str, Application]:
    """Return the applications of worker, beat and API functions by logical id; those with one code
    and environment share a child process. Raises ``HandlerImportError`` with the error of the
    import of a worker or a beat function.
    """
    specs = list(specs)
    found = {}
    for group in _groups(spec for spec in specs if _names(spec, ADAPTERS)):
        for spec, described in zip(group, _probe(group), strict=True):
            if described["adapter"] in ADAPTERS:
                found[spec.logical_id] = _read(described)
    if not found:
        return {}
    rest = [spec for spec in specs if spec.logical_id not in found]
    for group in _groups(spec for spec in rest if _names(spec, (API,))):
        try:
            described_group = _probe(group)
        except HandlerImportError as error:
            problem = Problem("import", str(error), "nothing, if it imports in its function")
            found[group[0].logical_id] = Application(API, "", "", (), (), problems=(problem,))
            continue
        for spec, described in zip(group, described_group, strict=True):
            if described["adapter"] == API and "app" in described:
                found[spec.logical_id] = _read(described)
    return found


def _groups(specs: Iterable[FunctionSpec]) -> list[list[FunctionSpec]]:
    groups: dict[str, list[FunctionSpec]] = {}
    for spec in specs:
        groups.setdefault(repr((spec.code_dir, sorted(spec.environment.items()))), []).append(spec)
    return list(groups.values())


def _read(described: dict[str, Any]) -> Application:
    tasks = tuple(
        Task(**{**task, "file": Path(task["file"]) if task["file"] else None})
        for task in described["tasks"]
    )
    entries = tuple(BeatEntry(**entry) for entry in described["entries"])
    problems = tuple(Problem(**problem) for problem in described["problems"])
    return Application(**{**described, "tasks": tasks, "entries": entries, "problems": problems})


def _names(spec: FunctionSpec, adapters: Iterable[str]) -> bool:
    module = spec.handler.rpartition(".")[0].replace(".", "/")
    file = spec.code_dir / f"{module}.py"
    package = spec.code_dir / module / "__init__.py"
    source = next((path for path in (file, package) if path.is_file()), None)
    if source is None:
        return False
    text = source.read_text("utf-8")
    return any(name in text for name in adapters)


def _probe(group: Sequence[FunctionSpec]) -> list[dict[str, Any]]:
    """Return the probe's description of each function, in order."""
    environ = function_environment(group[0], endpoint_url=_NOWHERE)
    ours = Path(__file__).parents[3]
    environ["PYTHONPATH"] = os.pathsep.join([environ["PYTHONPATH"], str(ours)])
    handlers = [spec.handler for spec in group]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "twolane_local.checks.lint.probe", *handlers],
            env=environ,
            cwd=group[0].code_dir,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        last, failed = f"it takes longer than {_TIMEOUT_S} s", True
    if failed:
        names = ", ".join(spec.logical_id for spec in group)
        raise HandlerImportError(
            f"{names}: {' or '.join(handlers)} in {group[0].code_dir} does not import here: "
            f"{last}; install what the function needs into this environment, or lint with "
            "--template-only"
        )
    # The modules may print, too; the probe's line is the last.
    described: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return described
