"""Rules about batches: failures of one message, and the time that tasks take."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from twolane_local.checks.lint.findings import Severity, Violation, rule
from twolane_local.checks.lint.subject import UNKNOWN, as_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.checks.lint.application import Task
    from twolane_local.checks.lint.subject import QueueSource, Subject
    from twolane_local.journal import Event


@rule(
    "TL103",
    "report-batch-item-failures",
    Severity.ERROR,
    "An event source mapping with more than one message a batch, or in front of a WorkerHandler, "
    "reports batch item failures.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html",
)
def batch_failures(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        types = source.mapping.properties.get("FunctionResponseTypes")
        if types is UNKNOWN or "ReportBatchItemFailures" in as_list(types):
            continue
        function = source.function.id if source.function else "the function"
        application = subject.applications.get(function)
        if application is not None and application.adapter == "WorkerHandler":
            message = (
                f"{function} answers which messages to keep, but the mapping does not ask: SQS "
                "deletes them all, failed ones too"
            )
            severity = Severity.ERROR
        elif (source.mapping.number("BatchSize", 10) or 1) > 1:
            message = f"one failed message brings the whole batch of {function} back"
            severity = Severity.WARNING
        else:
            continue
        yield Violation(
            source.mapping.id,
            message,
            "add FunctionResponseTypes: [ReportBatchItemFailures] to the event source",
            ("FunctionResponseTypes",),
            severity,
        )


@rule(
    "TL104",
    "batch-time",
    Severity.WARNING,
    "Batch size times the worst task time, by its limits or as the journal measured it, fits into "
    "the function's timeout.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html",
    needs="application",
)
def batch_time(subject: Subject) -> Iterator[Violation]:
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
        yield Violation(
            source.mapping.id,
            f"a batch of {size:g} messages of {task}, {how} {seconds:g} s, takes "
            f"{size * seconds:g} s one after the other; the function has {timeout:g} s. Messages "
            "without time left go back and lose a receive",
            f"set BatchSize: {fits}, or raise Timeout to {size * seconds:g}"
            if size * seconds <= 900
            else f"set BatchSize: {fits}",
            ("BatchSize",),
        )


def _without_limit(
    subject: Subject, source: QueueSource, timeout: float, size: float
) -> Iterator[Violation]:
    """Report tasks without a limit: one may take the time of its whole batch."""
    names = sorted(task.name for task in _tasks(subject, source) if not task.worst_s)
    if not names or size <= 1:
        return
    what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    has = "has" if len(names) == 1 else "have"
    yield Violation(
        source.mapping.id,
        f"{what} {has} no time limit: one may take all of the function's {timeout:g} s, and the "
        f"other {size - 1:g} of its batch go back and lose a receive each",
        f"set task_time_limit to no more than {timeout / size:g}, or BatchSize: 1",
        ("BatchSize",),
        Severity.NOTE,
    )


def _tasks(subject: Subject, source: QueueSource) -> list[Task]:
    """Return the tasks that are sent to this queue."""
    application = subject.applications.get(source.function.id) if source.function else None
    return [
        task
        for task in (application.tasks if application else ())
        if subject.queue(task.queue_url or task.queue) == source.queue
    ]


def _worst(subject: Subject, source: QueueSource) -> tuple[str, float, str] | None:
    """Return the slowest task of the queue, its seconds, and how they are known."""
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


@rule(
    "TL106",
    "fifo-window",
    Severity.ERROR,
    "An event source mapping of a FIFO queue has no batching window.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html",
)
def fifo_window(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        window = source.mapping.number("MaximumBatchingWindowInSeconds", 0)
        arn = str(source.mapping.properties["EventSourceArn"])
        if window and arn.endswith(".fifo"):
            yield Violation(
                source.mapping.id,
                "Lambda takes no batching window for a FIFO queue; the deployment fails",
                "take MaximumBatchingWindowInSeconds out",
                ("MaximumBatchingWindowInSeconds",),
            )


_ENDED = frozenset({"inline.succeeded", "inline.failed"})
#: The work did not fit into its invocation.
_CUT = frozenset({"inline.deferred", "inline.lost"})


@rule(
    "TL301",
    "slow-inline-work",
    Severity.WARNING,
    "Work in the inline lane ends within its budget, 2 s unless --inline-budget says otherwise.",
    "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html",
    needs="journal",
)
def inline_budget(subject: Subject) -> Iterator[Violation]:
    runs: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in subject.journal:
        name = event.data.get("taskName")
        if event.kind in _ENDED | _CUT and name:
            runs[event.function or "", str(name)].append(event)
    for (function, name), events in sorted(runs.items()):
        budget = _budget_s(subject, function)
        message = _over(name, events, budget)
        if message is not None:
            yield Violation(
                subject.names.get(function, function),
                message,
                f"make {name} a Celery task and call .delay(); `twolane advise` has the numbers",
                ("Timeout",),
            )


def _budget_s(subject: Subject, function: str) -> float:
    """The budget, at most the timeout less ApiHandler's reserve: a second, or a quarter."""
    resource = subject.find_function(function)
    timeout = resource.number("Timeout", 3) if resource else None
    if timeout is None:
        return subject.inline_budget_s
    return min(subject.inline_budget_s, timeout - min(1.0, timeout / 4))


def _over(name: str, events: list[Event], budget_s: float) -> str | None:
    # A failed task also makes Starlette skip those after it; only "timeout" means slow work.
    cut = [
        event
        for event in events
        if event.kind == "inline.deferred" or event.data.get("reason") == "timeout"
    ]
    if cut:
        return f"{name} did not fit into its invocation's time in {len(cut)} of {len(events)} runs"
    times = sorted(
        float(event.data["durationMs"]) / 1000
        for event in events
        if event.kind in _ENDED and event.data.get("durationMs") is not None
    )
    slow = [time for time in times if time > budget_s]
    # One run in twenty may be a cold connection.
    if not slow or len(slow) * 20 < len(times):
        return None
    return (
        f"{name} took longer than its inline budget of {budget_s:g} s in {len(slow)} of "
        f"{len(times)} runs, {times[-1]:.1f} s at most"
    )


@rule(
    "TL203",
    "hard-limit-beyond-timeout",
    Severity.WARNING,
    "A task's hard time limit is shorter than the timeout of the function that runs it.",
    "https://docs.celeryq.dev/en/stable/userguide/workers.html#time-limits",
    needs="application",
)
def hard_limits(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        if source.function is None or source.queue is None:
            continue
        application = subject.applications.get(source.function.id)
        timeout = source.function.number("Timeout", 3)
        for task in application.tasks if application else ():
            limit = task.hard_limit_s
            if limit is None or timeout is None or limit < timeout:
                continue
            if subject.queue(task.queue_url or task.queue) != source.queue:
                continue
            yield Violation(
                source.function.id,
                f"{task.name} may run {limit:g} s, but {source.function.id} is killed after "
                f"{timeout:g} s: the limit is never reached, and the whole batch comes back",
                f"set time_limit below {timeout:g}, or raise Timeout"
                if limit < 900
                else "route it to a stock `celery worker`: Lambda ends everything after 900 s",
                file=task.file,
                line=task.line,
            )
