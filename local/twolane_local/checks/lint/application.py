"""Reads the Celery application of a function.

A child process imports the handler's module with the function's environment, because two functions
may both call their package ``app``. Only modules that name an adapter for Celery are imported;
their tasks and handlers are not called.
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
#: Nothing listens on this port: an import must not need AWS.
_NOWHERE = "http://127.0.0.1:9"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Task:
    """One task. Limits are in seconds; ``queue_url`` is the configured one."""

    name: str
    queue: str
    queue_url: str | None
    hard_limit_s: float | None
    soft_limit_s: float | None
    file: Path | None
    line: int

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
class Application:
    """The application of one function; ``adapter`` is the class of its handler."""

    adapter: str
    app: str
    broker: str
    tasks: tuple[Task, ...]
    entries: tuple[BeatEntry, ...]
    #: The timeouts that the application sets for its Redis, by setting, in seconds.
    store_limits: Mapping[str, float] = field(default_factory=dict)


def load(specs: Iterable[FunctionSpec]) -> dict[str, Application]:
    """Return the applications of worker and beat functions by logical id; those with one code and
    environment share a child process. Raises ``HandlerImportError`` with the error of the import.
    """
    groups: dict[str, list[FunctionSpec]] = {}
    for spec in filter(_names_an_adapter, specs):
        groups.setdefault(repr((spec.code_dir, sorted(spec.environment.items()))), []).append(spec)
    found = {}
    for group in groups.values():
        for spec, described in zip(group, _probe(group), strict=True):
            if described["adapter"] in ADAPTERS:
                tasks = tuple(
                    Task(**{**task, "file": Path(task["file"]) if task["file"] else None})
                    for task in described["tasks"]
                )
                entries = tuple(BeatEntry(**entry) for entry in described["entries"])
                found[spec.logical_id] = Application(
                    **{**described, "tasks": tasks, "entries": entries}
                )
    return found


def _names_an_adapter(spec: FunctionSpec) -> bool:
    module = spec.handler.rpartition(".")[0].replace(".", "/")
    file = spec.code_dir / f"{module}.py"
    package = spec.code_dir / module / "__init__.py"
    source = next((path for path in (file, package) if path.is_file()), None)
    return source is not None and any(name in source.read_text("utf-8") for name in ADAPTERS)


def _probe(group: Sequence[FunctionSpec]) -> list[dict[str, Any]]:
    """Return the probe's description of each function, in order."""
    environ = function_environment(group[0], endpoint_url=_NOWHERE)
    ours = Path(__file__).parents[3]
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
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        names = ", ".join(spec.logical_id for spec in group)
        raise HandlerImportError(
            f"{names}: {' or '.join(handlers)} in {group[0].code_dir} does not import here: "
            f"{last}; install what the function needs into this environment, or lint with "
            "--template-only"
        )
    # The modules may print, too; the probe's line is the last.
    described: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return described
