"""What cannot be done is kept for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.rules.receive_count import redrive
from twolane_local.lint.subject import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        queue = source.queue
        if queue is None or queue.properties.get("RedrivePolicy") is UNKNOWN:
            continue
        if not redrive(queue).get("deadLetterTargetArn"):
            yield Found(
                queue.id,
                f"{queue.id} has no dead-letter queue: a message that always fails comes back "
                "until its retention is over, and is then gone",
                "add a queue, and RedrivePolicy: {deadLetterTargetArn: !GetAtt Queue.Arn, "
                "maxReceiveCount: 5}",
            )


RULE = Rule(
    "TL105",
    "dead-letter-queue",
    Severity.WARNING,
    "A queue that a function reads has a dead-letter queue.",
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html",
    check,
)
