"""What SQS sees of each outcome, as pure functions.

A message that is not named in ``batchItemFailures`` is deleted; one that is named comes back once
its visibility timeout has passed, which is the queue's own unless it is changed:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twolane.worker.channel import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane.worker.records import Record

DELETED = frozenset({Outcome.ACKNOWLEDGED, Outcome.DUPLICATE, Outcome.DEFERRED})

#: What no further delivery changes.
_REFUSED = frozenset({Outcome.REJECTED, Outcome.RUNAWAY})

#: The first wait in seconds where what is wrong is under the message and not in it. Five
#: receives of 1, 2, 4 and 8 s would be over in an outage of a quarter of a minute, with every
#: message in the dead-letter queue; so they last for seven and a half minutes.
OUTAGE_S = 30

#: The longest back-off in seconds, and SQS's longest visibility timeout (counted from the receive).
LONGEST_BACKOFF_S = 900
LONGEST_VISIBILITY_S = 43_200


class Settled(NamedTuple):
    """One record and what became of it; ``wait_s`` is how long it should stay away, if known."""

    record: Record
    outcome: Outcome
    wait_s: float | None = None


def response(settled: Iterable[Settled]) -> dict[str, Any]:
    """The function's answer to the event source mapping.

    A record without a message id is none of SQS's, and has nothing to come back as; an empty id
    would return the whole batch:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """
    return {
        "batchItemFailures": [
            {"itemIdentifier": one.record.message_id}
            for one in settled
            if one.outcome not in DELETED and one.record.message_id
        ]
    }


def visibility_s(one: Settled) -> int | None:
    """Seconds until a returned message is received again; ``None`` for a deleted one.

    Untouched and rejected messages come back at once: the first shall run, the second has only to
    be received until the queue's ``maxReceiveCount`` moves it to the dead-letter queue. What may
    fail again backs off with each receive, so that it never turns into a hot loop.
    """
    if one.outcome in DELETED:
        return None
    count = one.record.receive_count
    if one.wait_s is not None:
        return min(max(0, -int(-one.wait_s // 1)), LONGEST_VISIBILITY_S)
    if one.outcome is Outcome.UNTOUCHED:
        return 0
    if one.outcome in _REFUSED:
        # Without a redrive policy nothing ever takes it away: give up hurrying after a while.
        return 0 if count <= 10 else _backoff_s(count - 10)
    if one.outcome is Outcome.REQUEUED:
        return 0 if count == 1 else _backoff_s(count - 1)
    return _backoff_s(count, first_s=OUTAGE_S if one.outcome is Outcome.BROKEN else 1)


def _backoff_s(attempt: int, first_s: int = 1) -> int:
    return int(min(first_s * 2 ** min(attempt - 1, 20), LONGEST_BACKOFF_S))


def is_stopper(outcome: Outcome) -> bool:
    """Whether the rest of a FIFO message group must wait behind a message with this outcome.

    A function with partial batch responses on a FIFO queue returns everything behind the first
    failure, or the group's order is lost (the page above).
    """
    return outcome not in DELETED
