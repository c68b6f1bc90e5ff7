"""Rules about queues: receive counts, dead-letter queues, readers, visibility timeouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.checks.lint.findings import Severity, Violation, rule
from twolane_local.checks.lint.subject import UNKNOWN, as_mapping, as_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.checks.lint.application import Task
    from twolane_local.checks.lint.subject import Resource, Subject


_LEAST = 5


def redrive(queue: Resource) -> Mapping[str, Any]:
    """Return a queue's redrive policy, which may be JSON text."""
    policy = queue.properties.get("RedrivePolicy")
    if isinstance(policy, str):
        try:
            policy = json.loads(policy)
        except ValueError:
            return {}
    return as_mapping(policy)


@rule(
    "TL102",
    "receive-count",
    Severity.WARNING,
    "A queue that a function reads gives each message at least five receives.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html",
)
def receive_count(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        if source.queue is None:
            continue
        count = as_number(redrive(source.queue).get("maxReceiveCount"))
        if count is None or count >= _LEAST:
            continue
        # A message that fails on a FIFO queue holds up its group: few receives may be meant.
        fifo = source.queue.flag("FifoQueue")
        yield Violation(
            source.queue.id,
            f"{source.queue.id} sends a message to the dead-letter queue after {count:g} "
            f"receive{'s' if count > 1 else ''}; throttled batches count as receives, so "
            "messages that never ran land there",
            f"set maxReceiveCount: {_LEAST} or more",
            ("RedrivePolicy", "maxReceiveCount"),
            Severity.NOTE if fifo else None,
        )


@rule(
    "TL105",
    "dead-letter-queue",
    Severity.WARNING,
    "A queue that a function reads has a dead-letter queue.",
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html",
)
def dead_letters(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        queue = source.queue
        if queue is None or queue.properties.get("RedrivePolicy") is UNKNOWN:
            continue
        if not redrive(queue).get("deadLetterTargetArn"):
            yield Violation(
                queue.id,
                f"{queue.id} has no dead-letter queue: a message that always fails comes back "
                "until its retention is over, and is then gone",
                "add a queue, and RedrivePolicy: {deadLetterTargetArn: !GetAtt Queue.Arn, "
                "maxReceiveCount: 5}",
            )


#: SQS's default, four days.
_DEFAULT_S = 345_600
_DAY_S = 86_400


@rule(
    "TL108",
    "dead-letter-retention",
    Severity.NOTE,
    "A standard queue's dead letters are kept for longer than its messages.",
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html",
)
def dead_letter_retention(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        queue = source.queue
        # On a FIFO queue the move starts the retention anew.
        if queue is None or queue.flag("FifoQueue"):
            continue
        dead = subject.queue(str(redrive(queue).get("deadLetterTargetArn", "")))
        kept = queue.number("MessageRetentionPeriod", _DEFAULT_S)
        if dead is None or kept is None:
            continue
        kept_dead = dead.number("MessageRetentionPeriod", _DEFAULT_S)
        if kept_dead is None or kept_dead > kept:
            continue
        yield Violation(
            dead.id,
            f"{dead.id} keeps a message for {kept_dead / _DAY_S:g} days from when it was first "
            f"sent, and {queue.id} for {kept / _DAY_S:g}: one that waited there for long is "
            "deleted before anybody sees it",
            f"set MessageRetentionPeriod: 1209600 on {dead.id}, and less on {queue.id}",
            ("MessageRetentionPeriod",),
        )


@rule(
    "TL202",
    "queue-without-reader",
    Severity.WARNING,
    "Every queue that a task is routed to is read by an event source mapping, or by a container of "
    "the template.",
    "https://docs.celeryq.dev/en/stable/userguide/routing.html",
    needs="application",
)
def queues_read(subject: Subject) -> Iterator[Violation]:
    read = {source.queue.id for source in subject.sources() if source.queue is not None}
    reported: set[tuple[str, str]] = set()
    for function, application in subject.applications.items():
        if not application.broker.startswith("sqs:"):
            continue
        for task in application.tasks:
            key = (application.app, task.name)
            if key in reported or is_read(subject, task, read):
                continue
            reported.add(key)
            yield Violation(
                function,
                f"{task.name} is routed to the queue {task.queue!r}, which no event source mapping "
                "of this template reads",
                "give a worker function an SQS event for that queue, or correct task_routes and "
                "broker_transport_options['predefined_queues']",
                file=task.file,
                line=task.line,
            )


def is_read(subject: Subject, task: Task, by_mappings: set[str]) -> bool:
    """Return whether a function, or a container of the template, reads the task's queue."""
    queue = subject.queue(task.queue_url or task.queue)
    if queue is not None and queue.id in by_mappings:
        return True
    name = next((name for name, known in subject.names.items() if queue and known == queue.id), "")
    return any(
        wanted and wanted in json.dumps(definition.properties, default=repr)
        for definition in subject.of_kind("AWS::ECS::TaskDefinition")
        for wanted in (name, task.queue_url)
    )


_TIMES = 6
#: SQS's own limit: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
_MOST_S = 43_200


@rule(
    "TL101",
    "visibility-timeout",
    Severity.ERROR,
    "A queue's visibility timeout is at least six times its function's timeout, and the batching "
    "window on top.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html",
)
def visibility(subject: Subject) -> Iterator[Violation]:
    for source in subject.sources():
        if source.queue is None or source.function is None:
            continue
        hidden = source.queue.number("VisibilityTimeout", 30)
        timeout = source.function.number("Timeout", 3)
        window = source.mapping.number("MaximumBatchingWindowInSeconds", 0)
        if hidden is None or timeout is None or window is None:
            continue
        wanted = min(_TIMES * timeout + window, _MOST_S)
        if hidden >= wanted:
            continue
        name, function = source.queue.id, source.function.id
        if hidden < timeout:
            message = (
                f"{name} shows a message again after {hidden:g} s, while {function} may still work "
                f"on it for {timeout:g} s: it runs twice, and Lambda refuses the mapping"
            )
            severity = Severity.ERROR
        else:
            message = (
                f"{name}'s visibility timeout is {hidden:g} s, less than {_TIMES} times the "
                f"{timeout:g} s of {function}: a batch that Lambda has to try again is delivered "
                "twice"
            )
            # On a FIFO queue a failed message holds up its group for as long as it is hidden, so a
            # short time may be meant.
            severity = Severity.NOTE if source.queue.flag("FifoQueue") else Severity.WARNING
        fix = f"set VisibilityTimeout: {wanted:g} on {name}, or lower {function}'s Timeout"
        yield Violation(name, message, fix, ("VisibilityTimeout",), severity)
