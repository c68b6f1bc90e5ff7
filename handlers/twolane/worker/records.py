"""The records of a batch: as Lambda hands them over, their runs, and their outcomes.

**Record.** The event's shape: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html

**Run.** ``open_run`` makes a run of a record; ``twolane.worker.work`` takes it through Celery and
settles it. Nothing else keeps anything about a single record, so several can run side by side. Code
that Celery calls with a request or a message finds the run there: kombu acknowledges each message
on its channel, and the channel of a message is its run.

**Outcome.** A message that is not named in ``batchItemFailures`` is deleted; one that is named
comes back once its visibility timeout has passed, which is the queue's own unless it is changed:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
The worker logs one event when a task starts, and one when its message is settled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from twolane.environment.logs import correlation, emit, wanted
from twolane.errors import ConfigurationError, MalformedMessageError
from twolane.publish.claimcheck import MAX_BODY_BYTES
from twolane.state.store import bounded
from twolane.worker.lease import BODY_OF, ORIGIN, Delivery, delivery_of, lease_key, prior_key
from twolane.worker.message import (
    Envelope,
    TaskFacts,
    decoded,
    is_unicode,
    open_envelope,
    read_facts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from contextvars import Token

    from twolane.worker.lease import LeaseFence
    from twolane.worker.limits import Deadline


_TEXTS = ("messageId", "receiptHandle", "body", "eventSourceARN")
_fields = itemgetter(*_TEXTS, "eventSource", "attributes", "messageAttributes")
_NONE: Mapping[str, Any] = MappingProxyType({})
_COLONS = 5
_FOREVER = float("inf")


class Record(NamedTuple):
    """One message of an event, or, with a ``problem``, none at all. Every attribute may be absent,
    and one of the wrong type counts as absent.
    """

    message_id: str
    receipt_handle: str
    body: str
    queue_arn: str
    attributes: Mapping[str, str] = _NONE
    message_attributes: Mapping[str, Mapping[str, Any]] = _NONE
    problem: str | None = None

    @property
    def receive_count(self) -> int:
        """How often the message was received, this time included; 1 where SQS does not say."""
        said = self.attributes.get("ApproximateReceiveCount")
        if said == "1":
            return 1
        count = _number(said)
        return int(count) if 1 <= count < _FOREVER else 1

    @property
    def sent_s(self) -> float:
        """When the message was sent, in epoch seconds; infinite if SQS does not say."""
        return _number(self.attributes.get("SentTimestamp")) / 1000

    @property
    def first_received_s(self) -> float:
        """When it was received for the first time, in epoch seconds; as ``sent_s``."""
        return _number(self.attributes.get("ApproximateFirstReceiveTimestamp")) / 1000

    @property
    def group_id(self) -> str | None:
        group = self.attributes.get("MessageGroupId")
        return group if isinstance(group, str) else None

    @property
    def is_fifo(self) -> bool:
        return self.queue_arn.endswith(".fifo")

    @property
    def queue_name(self) -> str:
        return self.queue_arn.rpartition(":")[2]


def parse_event(event: Mapping[str, Any]) -> tuple[Record, ...]:
    """The event's records in order. Raises ``ConfigurationError`` for another source's event."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or (records and not any(map(_is_from_sqs, records))):
        raise ConfigurationError(
            "WorkerHandler was invoked with an event that is not from SQS; give the function an "
            "event source mapping from its task queue, and test it with a file of events/"
        )
    return tuple(map(_parse, records))


def _is_from_sqs(record: Any) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == "aws:sqs"


def _parse(record: Any) -> Record:
    try:
        message_id, receipt_handle, body, queue_arn, source, attributes, own = _fields(record)
        as_sqs_gives_it = (
            source == "aws:sqs"
            and type(body) is str
            and (body.isascii() or _is_text(body))
            and message_id.isascii()
            and receipt_handle.isascii()
            and queue_arn.isascii()
            and queue_arn.count(":") == _COLONS
            and type(attributes) is dict
            and not own
        )
    except (AttributeError, KeyError, TypeError):
        as_sqs_gives_it = False
    if as_sqs_gives_it:
        return Record(message_id, receipt_handle, body, queue_arn, attributes)
    return _parse_with_care(record)


def _parse_with_care(record: Any) -> Record:
    if not isinstance(record, dict):
        return Record("", "", "", "", problem="the record is not an object")
    attributes, own = record.get("attributes"), record.get("messageAttributes")
    problem = None if record.get("eventSource") == "aws:sqs" else "the record is not from SQS"
    texts: list[Any] = [record.get(name) for name in _TEXTS]
    if not all(map(_is_text, texts)) or texts[-1].count(":") != _COLONS:
        lacking = [not _is_text(text) for text in texts]
        lacking[-1] = lacking[-1] or texts[-1].count(":") != _COLONS
        names = [name for name, missing in zip(_TEXTS, lacking, strict=True) if missing]
        kept = ["" if missing else text for text, missing in zip(texts, lacking, strict=True)]
        problem, texts = f"the record has no {', '.join(names)} as SQS gives it", kept
    message_id, receipt_handle, body, queue_arn = texts
    return Record(
        message_id,
        receipt_handle,
        body,
        queue_arn,
        attributes if isinstance(attributes, dict) else {},
        {name: value for name, value in own.items() if isinstance(value, dict)}
        if isinstance(own, dict)
        else {},
        problem,
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value)


def _number(text: Any) -> float:
    """A number as SQS writes it, in digits; infinite for anything else."""
    digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 20
    return float(text) if digits else _FOREVER


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
    #: As Celery's log has it.
    traceback: str = ""


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
    """Seconds until a returned message is received again; ``None`` for a deleted one. At once for
    untouched and rejected ones: the first shall run, the second has only to reach the queue's
    ``maxReceiveCount``. What may fail again backs off with each receive.
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
    """True if the rest of a FIFO message group must wait behind this outcome: partial batch
    responses must return all behind the first failure, or the group's order is lost (the page
    above).
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
    if wanted(logger):
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
    if not wanted(logger, level):
        return
    fields: dict[str, Any] = {"taskName": name, **_where(settled.record)}
    fields["taskId"] = facts.task_id
    if end is not None:
        fields["durationMs"] = round(end.runtime_s * 1000, 3)
        if end.error is not None:
            fields["errorType"] = type(end.error).__name__
    if settled.wait_s is not None:
        fields["waitSeconds"] = round(settled.wait_s, 3)
    # Celery logs the traceback, in the form that the application gives its log.
    unlogged = {"stackTrace": end.traceback} if end is not None and end.traceback else {}
    emit(
        logger,
        event,
        f"{_SIGNS.get(event, '!')} {name} {text}",
        level=level,
        unlogged=unlogged,
        **fields,
    )


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


@dataclass(eq=False)
class Run:
    """One record on its way, from its event to the answer for it. ``problem``: why the message
    cannot be read, without ``envelope`` and ``facts``. ``fence``: the lease, once taken; ``ahead``:
    the lease, taken before the run's turn has come; ``end``: how the task ended; ``store_failed``:
    the state store or the result store did not do what it was asked; ``outcome``: what is said of
    the message, ``wait_s``: how long it should stay away. ``take``: where the pool has its task
    run; ``None``: at once. ``in_flight``: its task was taken there.
    """

    record: Record
    envelope: Envelope | None = None
    facts: TaskFacts | None = None
    problem: Exception | None = None
    deadline: Deadline | None = None
    fence: LeaseFence | None = None
    ahead: LeaseFence | None = None
    store_failed: bool = False
    end: TaskEnd | None = None
    outcome: Outcome | None = None
    wait_s: float | None = None
    take: Callable[[Any], object] | None = None
    in_flight: bool = False

    #: kombu asks a channel for the consumers that need no acknowledgement; there are none.
    no_ack_consumers: ClassVar[None] = None

    @property
    def task_id(self) -> str | None:
        return self.facts.task_id if self.facts else None

    @property
    def publish_key(self) -> tuple[str | None, str]:
        """The publish that the message is of, which all its copies share."""
        if self.facts is None:
            return None, self.record.message_id
        return self.facts.task_id, self.facts.publish or self.record.message_id

    @cached_property
    def lease_key(self) -> str | None:
        facts = self.facts
        return bounded(lease_key(facts.headers, facts.task_id)) if facts else None

    @cached_property
    def prior_key(self) -> str | None:
        """The key of the attempt that published this retry."""
        facts = self.facts
        found = prior_key(facts.headers, facts.task_id) if facts else None
        return bounded(found) if found else None

    @cached_property
    def delivery(self) -> Delivery:
        record, facts = self.record, self.facts
        times = record.sent_s, record.first_received_s
        publish = facts.publish if facts else None
        origins = [facts.headers.get(name) for name in (BODY_OF, ORIGIN)] if facts else []
        return delivery_of(
            record.receipt_handle, record.message_id, publish, *times, origins=origins
        )

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:  # noqa: ARG002
        """As kombu's channels have it; the first word counts."""
        if multiple:
            raise NotImplementedError("Celery acknowledges task messages one by one")
        self.outcome = self.outcome or Outcome.ACKNOWLEDGED

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: ARG002
        """As kombu's channels have it; the first word counts."""
        outcome = Outcome.REQUEUED if requeue else Outcome.REJECTED
        self.outcome = self.outcome or outcome


def run_of(message: Any) -> Run:
    """The run that one of kombu's messages belongs to; a request of Celery's has its message."""
    run: Run = message.channel
    return run


def open_run(
    record: Record,
    redeem: Callable[[str], str],
    accept: AbstractSet[str] = frozenset({"application/json"}),
    limit: int = MAX_BODY_BYTES,
    deadline: Deadline | None = None,
) -> Run:
    """Open one record; ``redeem`` gets a claim check's body, and may fail in its own ways. Any
    error is the run's ``problem``, which is raised when its turn comes.
    """
    run = Run(record, deadline=deadline)
    try:
        if record.problem is not None:
            raise MalformedMessageError(record.problem)
        body = redeem(record.body)
    except Exception as error:  # noqa: BLE001 - it is about this record
        run.problem = error
        return run
    try:
        envelope = open_envelope(body)
        run.facts = read_facts(envelope, lambda one: decoded(one, accept, limit))
        run.envelope = envelope
    except MalformedMessageError as error:
        run.problem = error
    except Exception as error:  # noqa: BLE001 - no text may break more than its own record
        run.problem = MalformedMessageError(f"the message cannot be read: {error!r}")
        run.problem.__cause__ = error
    return run
