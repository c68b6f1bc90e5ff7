"""The Celery application in a function, as far as rules ask for it.

The handler's module is imported as the function does it, with the function's environment, in a
child process: two functions may both call their package ``app``, and this process stays clean. Only
modules that name an adapter of ours which holds a Celery app are imported; nothing in them is run.
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
#: Where no AWS is: port 9 discards, and nothing of the import should call at all.
_NOWHERE = "http://127.0.0.1:9"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Task:
    """One task: limits in seconds; ``queue_url`` where the configuration names one."""

    name: str
    queue: str
    queue_url: str | None
    hard_limit_s: float | None
    soft_limit_s: float | None
    file: Path | None
    line: int

    @property
    def worst_s(self) -> float | None:
        """As long as it may run at most; ``None`` where nothing limits it."""
        return self.hard_limit_s or self.soft_limit_s


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of ``beat_schedule``."""

    name: str
    task: str


@dataclass(frozen=True, slots=True)
class Application:
    """What one function's handler holds; ``adapter`` is its class, ``app`` Celery's name for it."""

    adapter: str
    app: str
    broker: str
    tasks: tuple[Task, ...]
    entries: tuple[Entry, ...]
    #: The limits that the application sets for one answer of its Redis, by setting, in seconds.
    store_limits: Mapping[str, float] = field(default_factory=dict)


def load(specs: Iterable[FunctionSpec]) -> dict[str, Application]:
    """By logical id, the applications of worker and beat functions; others are left alone.

    Functions with the same code and environment share a child process. Raises
    ``HandlerImportError`` with what the import said.
    """
    groups: dict[str, list[FunctionSpec]] = {}
    for spec in filter(_names_an_adapter, specs):
        groups.setdefault(repr((spec.code_dir, sorted(spec.environment.items()))), []).append(spec)
    found = {}
    for group in groups.values():
        for spec, said in zip(group, _described(group), strict=True):
            application = _from_json(said)
            if application is not None:
                found[spec.logical_id] = application
    return found


def _names_an_adapter(spec: FunctionSpec) -> bool:
    module = spec.handler.rpartition(".")[0].replace(".", "/")
    file = spec.code_dir / f"{module}.py"
    package = spec.code_dir / module / "__init__.py"
    source = next((path for path in (file, package) if path.is_file()), None)
    return source is not None and any(name in source.read_text("utf-8") for name in ADAPTERS)


def _described(group: Sequence[FunctionSpec]) -> list[dict[str, Any]]:
    """What the probe says of each, in order."""
    environ = function_environment(group[0], endpoint_url=_NOWHERE)
    ours = Path(__file__).parents[2]
    environ["PYTHONPATH"] = os.pathsep.join([environ["PYTHONPATH"], str(ours)])
    handlers = [spec.handler for spec in group]
    done = subprocess.run(
        [sys.executable, "-m", "twolane_local.checks.lint.probe", *handlers],
        env=environ,
        cwd=group[0].code_dir,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        names = ", ".join(spec.logical_id for spec in group)
        raise HandlerImportError(
            f"{names}: {' or '.join(handlers)} in {group[0].code_dir} does not import here: "
            f"{last}; install what the function needs into this environment, or lint with "
            "--template-only"
        )
    # The modules may print; the probe's own line is the last.
    described: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return described


def _from_json(said: dict[str, Any]) -> Application | None:
    if said["adapter"] not in ADAPTERS:
        return None
    tasks = tuple(
        Task(**{**task, "file": Path(task["file"]) if task["file"] else None})
        for task in said["tasks"]
    )
    entries = tuple(Entry(**entry) for entry in said["entries"])
    return Application(
        said["adapter"], said["app"], said["broker"], tasks, entries, said["store_limits"]
    )
