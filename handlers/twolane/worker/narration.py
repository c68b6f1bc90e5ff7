"""What the worker tells: one event when a task starts, one when its message is settled."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane.logs import correlation, emit
from twolane.worker.channel import Outcome

if TYPE_CHECKING:
    from contextvars import Token

    from twolane.errors import MalformedMessageError
    from twolane.worker.facts import TaskFacts
    from twolane.worker.pool import Ran
    from twolane.worker.records import Record
    from twolane.worker.settlement import Settled

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


def about_task(facts: TaskFacts | None) -> Token[dict[str, str] | None]:
    """Put the task's id, and the request that it comes from, on every line until the reset."""
    known = correlation.get()
    if facts is None:
        return correlation.set(known)
    return correlation.set({**(known or {}), **facts.origin, "taskId": facts.task_id})


def started(record: Record, request: Any, retries: int) -> None:
    if logger.isEnabledFor(logging.INFO):
        emit(
            logger,
            "task.started",
            f"→ {request.name} started",
            taskName=request.name,
            attempt=retries + 1,
            **_where(record),
        )


def malformed(record: Record, error: MalformedMessageError) -> None:
    emit(
        logger,
        "task.rejected",
        f"! message {record.message_id} is no Celery message: {error}",
        level=logging.ERROR,
        **_where(record),
    )


def settled(settled: Settled, facts: TaskFacts | None, ran: Ran | None) -> None:
    """Tell how a record ended; what has run is told by how it ran."""
    if facts is None:
        return
    name = facts.name
    event, text, level = _kind(settled.outcome, facts, ran)
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, Any] = {"taskName": name, **_where(settled.record)}
    fields["taskId"] = facts.task_id
    if ran is not None:
        fields["durationMs"] = round(ran.runtime_s * 1000, 3)
        if ran.error is not None:
            fields["errorType"] = type(ran.error).__name__
    if settled.wait_s is not None:
        fields["waitSeconds"] = round(settled.wait_s, 3)
    emit(logger, event, f"{_SIGNS.get(event, '!')} {name} {text}", level=level, **fields)


_SIGNS = {"task.succeeded": "←", "task.retried": "↻", "task.deferred": "↻", "task.duplicate": "="}


def _kind(outcome: Outcome, facts: TaskFacts, ran: Ran | None) -> tuple[str, str, int]:
    if ran is not None and ran.ending in _RAN and outcome is Outcome.ACKNOWLEDGED:
        return _RAN[ran.ending]
    if outcome in _NOT_RUN:
        event, text = _NOT_RUN[outcome]
        if ran is not None and ran.ending == "failed":
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
