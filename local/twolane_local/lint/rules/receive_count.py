"""A message gets enough chances before the dead-letter queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.subject import mapping, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.lint.subject import Resource, Subject

_LEAST = 5


def redrive(queue: Resource) -> Mapping[str, Any]:
    """A queue's redrive policy, which may be written as JSON text."""
    policy = queue.properties.get("RedrivePolicy")
    if isinstance(policy, str):
        try:
            policy = json.loads(policy)
        except ValueError:
            return {}
    return mapping(policy)


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        if source.queue is None:
            continue
        count = number(redrive(source.queue).get("maxReceiveCount"))
        if count is None or count >= _LEAST:
            continue
        # A message that fails on a FIFO queue holds up its group: few receives may be meant.
        fifo = source.queue.flag("FifoQueue")
        yield Found(
            source.queue.id,
            f"{source.queue.id} sends a message to the dead-letter queue after {count:g} "
            f"receive{'s' if count > 1 else ''}; throttled batches count as such, so whole work "
            "lands there",
            f"set maxReceiveCount: {_LEAST} or more",
            ("RedrivePolicy", "maxReceiveCount"),
            Severity.NOTE if fifo else None,
        )


RULE = Rule(
    "TL102",
    "receive-count",
    Severity.WARNING,
    "A queue that a function reads gives each message at least five receives.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html",
    check,
)
