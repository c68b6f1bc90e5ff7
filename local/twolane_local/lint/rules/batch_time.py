"""A whole batch fits into the function's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Source, Subject


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        worst = _worst(subject, source)
        timeout = source.function.number("Timeout", 3) if source.function else None
        size = source.mapping.number("BatchSize", 10)
        if worst is None or timeout is None or size is None:
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


def _worst(subject: Subject, source: Source) -> tuple[str, float, str] | None:
    """The slowest task of the queue, its seconds, and how they are known."""
    if source.function is None or source.queue is None:
        return None
    application = subject.applications.get(source.function.id)
    found = [
        (task.name, task.worst_s, "each limited to")
        for task in (application.tasks if application else ())
        if task.worst_s and subject.queue(task.queue_url or task.queue) == source.queue
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
