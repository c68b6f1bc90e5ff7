"""The outcome of a message: what SQS sees of it, as pure functions, and what the log says.

A message that is not named in ``batchItemFailures`` is deleted; one that is named comes back once
its visibility timeout has passed, which is the queue's own unless it is changed:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html

The worker logs one event when a task starts, and one when its message is settled.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane.environment.logs import correlation, emit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import Token

    from twolane.errors import MalformedMessageError
    from twolane.worker.message import TaskFacts
    from twolane.worker.records import Record


class Outcome(StrEnum):
    """The end of a message. ``response`` and ``visibility_s`` say what SQS sees of it."""

    ACKNOWLEDGED = "acknowledged"  # done with: succeeded, failed and recorded, ignored, revoked …
    DUPLICATE = "duplicate"  # the same work was finished on an earlier delivery
    DEFERRED = "deferred"  # a copy is on its way, due later
    REQUEUED = "requeued"  # the task or Celery asked for another delivery
    REJECTED = "rejected"  # refused for good: for the dead-letter queue
    MALFORMED = "malformed"  # not a message that Celery can read, or not a task it knows
    RUNAWAY = "runaway"  # descends from one task too deep and too fast: for the dead-letter queue
    BUSY = "busy"  # another execution environment is at it
    POSTPONED = "postponed"  # not due, on a queue that takes no delay for a single message
    UNTOUCHED = "untouched"  # not started: no time left, or its group must wait
    BROKEN = "broken"  # something under Celery failed; the work is not safe


DELETED = frozenset({Outcome.ACKNOWLEDGED, Outcome.DUPLICATE, Outcome.DEFERRED})

#: Outcomes that no further delivery changes.
_REFUSED = frozenset({Outcome.REJECTED, Outcome.RUNAWAY})

#: The first wait in seconds if the error is under the message and not in it. Five
#: receives of 1, 2, 4 and 8 s would be over in an outage of a quarter of a minute, with every
#: message in the dead-letter queue; so they last for seven and a half minutes.
OUTAGE_S = 30

#: The longest back-off in seconds, and SQS's longest visibility timeout (counted from the receive).
LONGEST_BACKOFF_S = 900
LONGEST_VISIBILITY_S = 43_200


class TaskEnd(NamedTuple):
    """How a task that has run ended.

    ``how``: succeeded, failed, retried, rejected, ignored, lost, terminated or broken.
    """

    how: str
    runtime_s: float
    error: BaseException | None = None


class Settled(NamedTuple):
    """One record and its outcome; ``wait_s`` is how long it should stay away, if known."""

    record: Record
    outcome: Outcome
    wait_s: float | None = None


def response(settled: Iterable[Settled]) -> dict[str, Any]:
    """The function's answer to the event source mapping.

    A record without a message id is not from SQS, and cannot come back; an empty id would return
    the whole batch:
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
    """True if the rest of a FIFO message group must wait behind a message with this outcome.

    A function with partial batch responses on a FIFO queue returns everything behind the first
    failure, or the group's order is lost (the page above).
    """
    return outcome not in DELETED


logger = logging.getLogger("twolane.worker")

_RAN = {
    "succeeded": ("task.succeeded", "succeeded", logging.INFO),
    "retried": ("task.retried", "will be tried again", logging.INFO),
    "ignored": ("task.succeeded", "ended by Ignore", logging.INFO),
    "failed": ("task.failed", "failed", logging.ERROR),
    "lost": ("task.failed", "was cut off", logging.ERROR),
    "terminated": ("task.revoked", "was terminated", logging.WARNING),
}
_NOT_RUN = {
    Outcome.DUPLICATE: ("task.duplicate", "was finished before; this delivery is dropped"),
    Outcome.DEFERRED: ("task.deferred", "is not due; it was sent again with a delay"),
    Outcome.POSTPONED: ("task.deferred", "is not due; the message stays away until it is"),
    Outcome.BUSY: ("task.returned", "runs elsewhere; the message comes back after its lease"),
    Outcome.UNTOUCHED: ("task.returned", "was not started; the message goes back at once"),
    Outcome.REQUEUED: ("task.returned", "goes back to its queue and will run again"),
    Outcome.BROKEN: ("task.returned", "could not be settled; it will be delivered again"),
    Outcome.REJECTED: ("task.rejected", "is refused; its message goes to the dead-letter queue"),
    Outcome.RUNAWAY: (
        "task.rejected",
        "looks like a loop without an end; it goes to the dead-letter queue",
    ),
    Outcome.MALFORMED: ("task.rejected", "cannot be read; it goes to the dead-letter queue"),
}


def log_context(facts: TaskFacts | None) -> Token[dict[str, str] | None]:
    """Put the task's id, and the request that it comes from, on every line until the reset."""
    known = correlation.get()
    if facts is None:
        return correlation.set(known)
    return correlation.set({**(known or {}), **facts.origin, "taskId": facts.task_id})


def log_started(record: Record, request: Any, retries: int) -> None:
    if logger.isEnabledFor(logging.INFO):
        emit(
            logger,
            "task.started",
            f"→ {request.name} started",
            taskName=request.name,
            attempt=retries + 1,
            **_where(record),
        )


def log_malformed(record: Record, error: MalformedMessageError) -> None:
    emit(
        logger,
        "task.rejected",
        f"! message {record.message_id} is not a Celery message: {error}",
        level=logging.ERROR,
        **_where(record),
    )


def log_settled(settled: Settled, facts: TaskFacts | None, end: TaskEnd | None) -> None:
    """Log how a record ended; a task that has run, by how it ended."""
    if facts is None:
        return
    name = facts.name
    event, text, level = _kind(settled.outcome, facts, end)
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, Any] = {"taskName": name, **_where(settled.record)}
    fields["taskId"] = facts.task_id
    if end is not None:
        fields["durationMs"] = round(end.runtime_s * 1000, 3)
        if end.error is not None:
            fields["errorType"] = type(end.error).__name__
    if settled.wait_s is not None:
        fields["waitSeconds"] = round(settled.wait_s, 3)
    emit(logger, event, f"{_SIGNS.get(event, '!')} {name} {text}", level=level, **fields)


_SIGNS = {"task.succeeded": "←", "task.retried": "↻", "task.deferred": "↻", "task.duplicate": "="}


def _kind(outcome: Outcome, facts: TaskFacts, end: TaskEnd | None) -> tuple[str, str, int]:
    if end is not None and end.how in _RAN and outcome is Outcome.ACKNOWLEDGED:
        return _RAN[end.how]
    if outcome in _NOT_RUN:
        event, text = _NOT_RUN[outcome]
        if end is not None and end.how == "failed":
            return "task.failed", f"failed; {text}", logging.ERROR
        return event, text, logging.INFO if outcome in _QUIET else logging.WARNING
    if _is_expired(facts.expires):
        return "task.expired", "expired before it was started", logging.INFO
    return "task.revoked", "was revoked before it was started", logging.INFO


_QUIET = frozenset({Outcome.DUPLICATE, Outcome.DEFERRED, Outcome.POSTPONED})


def _is_expired(expires: str | None) -> bool:
    if expires is None:
        return False
    try:
        at = datetime.fromisoformat(expires)
    except ValueError:
        return False
    return at.tzinfo is not None and at < datetime.now(UTC)


def _where(record: Record) -> dict[str, Any]:
    return {
        "messageId": record.message_id,
        "queue": record.queue_name,
        "receiveCount": record.receive_count,
    }
