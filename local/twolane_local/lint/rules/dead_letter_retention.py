"""A dead letter is kept for longer than its queue would have kept it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.rules.receive_count import redrive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject

#: SQS's default, four days.
_DEFAULT_S = 345_600
_DAY_S = 86_400


def check(subject: Subject) -> Iterator[Found]:
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
        yield Found(
            dead.id,
            f"{dead.id} keeps a message for {kept_dead / _DAY_S:g} days from when it was first "
            f"sent, and {queue.id} for {kept / _DAY_S:g}: one that waited there for long is gone "
            "before anybody sees it",
            f"set MessageRetentionPeriod: 1209600 on {dead.id}, and less on {queue.id}",
            ("MessageRetentionPeriod",),
        )


RULE = Rule(
    "TL108",
    "dead-letter-retention",
    Severity.NOTE,
    "A standard queue's dead letters are kept for longer than its messages.",
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html",
    check,
)
