"""A whole batch fits into the function's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.application import Task
    from twolane_local.lint.subject import Source, Subject


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        worst = _worst(subject, source)
        timeout = source.function.number("Timeout", 3) if source.function else None
        size = source.mapping.number("BatchSize", 10)
        if timeout is None or size is None:
            continue
        if worst is None or size * worst[1] <= timeout:
            yield from _without_limit(subject, source, timeout, size)
        if worst is None:
            continue
        task, seconds, how = worst
        if size * seconds <= timeout:
            continue
        fits = max(1, int(timeout // seconds))
        yield Found(
            source.mapping.id,
            f"a batch of {size:g} messages of {task}, {how} {seconds:g} s, takes "
            f"{size * seconds:g} s one after the other; the function has {timeout:g} s. What has "
            "no time left goes back and loses a receive",
            f"set BatchSize: {fits}, or raise Timeout to {size * seconds:g}"
            if size * seconds <= 900
            else f"set BatchSize: {fits}",
            ("BatchSize",),
        )


def _without_limit(
    subject: Subject, source: Source, timeout: float, size: float
) -> Iterator[Found]:
    """A task that nothing ends before the function does may take the time of its whole batch."""
    names = sorted(task.name for task in _tasks(subject, source) if not task.worst_s)
    if not names or size <= 1:
        return
    what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    has = "has" if len(names) == 1 else "have"
    yield Found(
        source.mapping.id,
        f"{what} {has} no time limit: one may take all of the function's {timeout:g} s, and the "
        f"other {size - 1:g} of its batch go back and lose a receive each",
        f"set task_time_limit to no more than {timeout / size:g}, or BatchSize: 1",
        ("BatchSize",),
        Severity.NOTE,
    )


def _tasks(subject: Subject, source: Source) -> list[Task]:
    """The tasks that come by this queue."""
    application = subject.applications.get(source.function.id) if source.function else None
    return [
        task
        for task in (application.tasks if application else ())
        if subject.queue(task.queue_url or task.queue) == source.queue
    ]


def _worst(subject: Subject, source: Source) -> tuple[str, float, str] | None:
    """The slowest task of the queue, its seconds, and how they are known."""
    if source.function is None or source.queue is None:
        return None
    found = [
        (task.name, task.worst_s, "each limited to")
        for task in _tasks(subject, source)
        if task.worst_s
    ]
    name = next(name for name, known in subject.names.items() if known == source.queue.id)
    found += [
        (str(event.data["taskName"]), event.data["durationMs"] / 1000, "measured at")
        for event in subject.journal
        if event.kind in {"task.succeeded", "task.failed", "task.retried"}
        and event.data.get("taskName")
        and event.data.get("durationMs")
        and event.queue == name
    ]
    return max(found, key=lambda one: one[1], default=None)


RULE = Rule(
    "TL104",
    "batch-time",
    Severity.WARNING,
    "Batch size times the worst task time, by its limits or as the journal measured it, fits into "
    "the function's timeout.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html",
    check,
    needs="application",
)
