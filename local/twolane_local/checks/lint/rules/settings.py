"""Rules about Celery's settings on SQS; ``twolane.publish.application`` finds what is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twolane_local.checks.lint.findings import Severity, Violation, rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twolane_local.checks.lint.application import Problem
    from twolane_local.checks.lint.subject import Subject


def _problems(subject: Subject, kind: str) -> Iterator[tuple[str, Problem]]:
    """Yield each problem once, at the first function that has it: the worker before the others."""
    reported: set[tuple[str, str]] = set()
    ordered = sorted(
        subject.applications.items(), key=lambda item: item[1].adapter != "WorkerHandler"
    )
    for function, application in ordered:
        for problem in application.problems:
            key = (application.app, problem.what)
            if problem.kind == kind and key not in reported:
                reported.add(key)
                yield function, problem


@rule(
    "TL204",
    "broker",
    Severity.ERROR,
    "Where a worker function reads a queue, the application publishes to SQS.",
    "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/sqs.html",
    needs="application",
)
def broker(subject: Subject) -> Iterator[Violation]:
    read = [
        (source.queue.id, source.function.id)
        for source in subject.sources()
        if source.queue is not None and source.function is not None
        if getattr(subject.applications.get(source.function.id), "adapter", "") == "WorkerHandler"
    ]
    if not read:
        return
    queue, worker = read[0]
    for function, problem in _problems(subject, "broker"):
        yield Violation(function, f"{worker} reads {queue}, but {problem.what}", problem.fix)
    for function, problem in _problems(subject, "import"):
        yield Violation(
            function,
            f"whether it publishes to SQS was not looked at: {problem.what}",
            problem.fix,
            severity=Severity.NOTE,
        )


@rule(
    "TL205",
    "eager-tasks",
    Severity.WARNING,
    "Tasks are sent to their queue: `task_always_eager` is for tests.",
    "https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-always-eager",
    needs="application",
)
def eager(subject: Subject) -> Iterator[Violation]:
    for function, problem in _problems(subject, "eager"):
        yield Violation(function, problem.what, problem.fix)


@rule(
    "TL206",
    "serializer",
    Severity.WARNING,
    "Tasks are sent as JSON.",
    "https://docs.celeryq.dev/en/stable/userguide/security.html#serializers",
    needs="application",
)
def serializer(subject: Subject) -> Iterator[Violation]:
    for function, problem in _problems(subject, "serializer"):
        yield Violation(function, problem.what, problem.fix)


@rule(
    "TL207",
    "rpc-results",
    Severity.ERROR,
    "Results are kept in a store, not sent to a queue of their own.",
    "https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend",
    needs="application",
)
def results(subject: Subject) -> Iterator[Violation]:
    for function, problem in _problems(subject, "results"):
        yield Violation(function, problem.what, problem.fix)


_IMPORT = re.compile(r"^\s*(import|from)\s+twolane\b", re.MULTILINE)


@rule(
    "TL208",
    "coroutine-tasks",
    Severity.NOTE,
    "Where there are `async def` tasks, the module of the application imports twolane.",
    "https://github.com/celery/celery/issues/3884",
    needs="application",
)
def coroutine_tasks(subject: Subject) -> Iterator[Violation]:
    for function, application in subject.applications.items():
        awaits = [task for task in application.tasks if task.awaits]
        files = {task.file for task in application.tasks if task.file is not None}
        if not awaits or any(map(_imports_twolane, files)):
            continue
        names = ", ".join(sorted(task.name for task in awaits)[:3])
        yield Violation(
            function,
            f"{len(awaits)} async def tasks ({names}) run here, but a stock celery worker and "
            "task.apply() take their coroutines for results: none of the tasks' modules imports "
            "twolane",
            "`import twolane` beside the application, if it runs there as well",
        )
        return


def _imports_twolane(file: Path) -> bool:
    try:
        return _IMPORT.search(file.read_text("utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False
