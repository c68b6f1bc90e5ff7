"""The queues of this machine: what the SQS API, the mappings, schedules and commands stand on.

Synchronous, in memory, on the injected clock, guarded by one lock; an operation costs the same at
any depth. ``wait`` is the one coroutine: it returns once a message can be received.
"""

from __future__ import annotations

import hashlib
import random
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.errors import (
    InvalidParameterValueError,
    OverLimitError,
    ServiceUnavailableError,
    UnknownSourceError,
)
from twolane_local.aws.sqs.queue import Attempt
from twolane_local.aws.sqs.registry import ACCOUNT, REGION, NoRecord, QueueRegistry, Record
from twolane_local.journal import cut
from twolane_local.journal.json_log import PersistenceError
from twolane_local.model import lineage
from twolane_local.model.message import AttributeValue, Message, md5_of, md5_of_attributes
from twolane_local.model.states import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.sqs.order import Entry
    from twolane_local.aws.sqs.queue import Queue
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model.message import Received

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
IN_FLIGHT_LIMIT = 120_000
VISIBILITY_LIMIT_S = 43_200


@dataclass(frozen=True, slots=True)
class NewMessage:
    """What a sender gives. ``delay_s`` of ``None`` takes the queue's."""

    body: str
    delay_s: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    trace_header: str | None = None
    group_id: str | None = None
    deduplication_id: str | None = None


class QueueService(QueueRegistry):
    """All queues and their messages. Every method may be called from any thread."""

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        *,
        rng: random.Random | None = None,
        record: Record | None = None,
        account: str = ACCOUNT,
        region: str = REGION,
    ) -> None:
        """``rng`` gives message ids and receipt handles, so that a seeded run repeats exactly;
        ``record`` is told of every change before it is acknowledged.
        """
        super().__init__(
            clock, journal, record=record or NoRecord(), account=account, region=region
        )
        self._rng = rng or random.Random()  # noqa: S311 - ids only, no secret

    def send(self, name: str, new: NewMessage) -> Message:
        """Put a message on a queue; on a FIFO queue a duplicate gives the first one back."""
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._settle(queue, now)
            deduplication_id = new.deduplication_id
            if queue.fifo:
                if deduplication_id is None:
                    deduplication_id = hashlib.sha256(new.body.encode()).hexdigest()
                first = queue.duplicate_of(new.group_id, deduplication_id, now)
                if first is not None:
                    return first
            message = Message(
                id=self._new_id(),
                body=new.body,
                sent_at=now,
                md5_of_body=md5_of(new.body.encode()),
                md5_of_attributes=md5_of_attributes(new.attributes),
                attributes=new.attributes,
                trace_header=new.trace_header,
                group_id=new.group_id,
                deduplication_id=deduplication_id,
                sequence=queue.next_sequence() if queue.fifo else None,
            )
            delay = queue.settings.delay_s if new.delay_s is None else new.delay_s
            self._put(queue, message, visible_at=now + delay, now=now)
            if queue.fifo:
                queue.remember(message, now)
            return message

    def _put(self, queue: Queue, message: Message, *, visible_at: float, now: float) -> Entry:
        entry = queue.put(message, visible_at=visible_at, now=now)
        try:
            self._record.put(queue.name, entry)
        except PersistenceError as error:
            queue.remove(entry)  # nobody was told that it is there
            raise ServiceUnavailableError(str(error)) from error
        delay: dict[str, Any] = {"delaySeconds": visible_at - now} if visible_at > now else {}
        self._journal.record(
            "message.sent", queue=queue.name, message_id=message.id,
            bytes=len(message.body), body=cut(message.body), **delay,
        )  # fmt: skip
        self._wake(queue.name)
        return entry

    def receive(
        self,
        name: str,
        limit: int = 1,
        *,
        visibility_s: float | None = None,
        attempt_id: str | None = None,
    ) -> list[Received]:
        """Up to ``limit`` messages, in flight from now on; none without waiting if there are none.

        A message received ``maxReceiveCount`` times before goes to the dead-letter queue instead.
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._settle(queue, now)
            if attempt_id is not None and queue.fifo:
                again = self._repeat_attempt(queue, attempt_id, visibility_s, now)
                if again is not None:
                    return again
            room = IN_FLIGHT_LIMIT - queue.count(IN_FLIGHT)
            if room <= 0:
                if queue.fifo:
                    return []
                raise OverLimitError
            visibility = queue.settings.visibility_s if visibility_s is None else visibility_s
            handed = queue.receive(
                min(limit, room), visibility, now,
                exhausted=lambda entry: self._redrive(queue, entry, now), nonce=self._nonce,
            )  # fmt: skip
            for received in handed:
                entry = queue.find(received.receipt_handle)
                if entry is not None:
                    self._record.received(name, entry)
                    self._tell("message.received", queue, entry, visibleAt=entry.due_at)
            if attempt_id is not None and queue.fifo and handed:
                self._remember_attempt(queue, attempt_id, handed, now)
            return handed

    def _remember_attempt(
        self, queue: Queue, attempt_id: str, handed: list[Received], now: float
    ) -> None:
        entries = [queue.find(received.receipt_handle) for received in handed]
        epochs = tuple(entry.epoch for entry in entries if entry is not None)
        queue.deduplication.attempts.set(attempt_id, Attempt(tuple(handed), epochs), now)

    def _repeat_attempt(
        self, queue: Queue, attempt_id: str, visibility_s: float | None, now: float
    ) -> list[Received] | None:
        """The same messages and handles once more, unless one of them was touched since.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-receiverequestattemptid-request-parameter.html
        """
        attempt = queue.deduplication.attempts.get(attempt_id, now)
        if attempt is None:
            return None
        entries = [queue.find(received.receipt_handle) for received in attempt.messages]
        untouched = [
            entry
            for entry, epoch in zip(entries, attempt.epochs, strict=True)
            if entry is not None and entry.epoch == epoch and entry.state is IN_FLIGHT
        ]
        if len(untouched) != len(entries):
            queue.deduplication.attempts.forget(attempt_id)
            return None
        visibility = queue.settings.visibility_s if visibility_s is None else visibility_s
        for entry in untouched:
            queue.change_visibility(entry, visibility, now)
            self._record.received(queue.name, entry)
        self._remember_attempt(queue, attempt_id, list(attempt.messages), now)
        return list(attempt.messages)

    def _redrive(self, queue: Queue, entry: Entry, now: float) -> bool:
        """Move a message that was received too often; tells whether it went.

        Standard queues keep the time of sending, FIFO queues set it anew:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
        Unverified (`receive-count`): the receive count goes on counting on the dead-letter queue.
        """
        target = queue.settings.dead_letter_arn
        if target is None or entry.receive_count < queue.settings.max_receive_count:
            return False
        dead = self._queues.get(target.rpartition(":")[2])
        if dead is None or dead is queue:
            return False
        message = replace(entry.message, dead_letter_source=queue.arn)
        if dead.fifo:
            message = replace(message, sent_at=now, sequence=dead.next_sequence())
        queue.discard_taken(entry)
        moved = dead.put(message, visible_at=now, now=now)
        moved.receive_count = entry.receive_count
        moved.first_received_at = entry.first_received_at
        self._record.moved(queue.name, entry, dead.name, moved)
        self._tell("message.dead_lettered", queue, entry, deadLetterQueue=dead.name)
        self._wake(dead.name)
        return True

    def redrive_one(
        self,
        name: str,
        target: str | None,
        *,
        message_id: str | None = None,
        body: str | None = None,
        new_chain: bool = False,
    ) -> Message | None:
        """Move the next visible message of a dead-letter queue to ``target``, or to where it came
        from; ``None`` once none is visible. With ``message_id`` that one, wherever it is on its
        queue; ``body`` replaces what it says. A ``new_chain`` begins with it, where Lambda's
        recursive-loop detection would stop the old one again.

        It is a new message there, with a new id and time of sending:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._settle(queue, now)
            entry = queue.peek() if message_id is None else queue.entry(message_id)
            if entry is None:
                return None
            source = entry.message.dead_letter_source
            if target is None and source is None:
                raise UnknownSourceError
            to = self.get(target) if target is not None else self.get_by_arn(source or "")
            queue.remove(entry)
            text = entry.message.body if body is None else body
            trace = entry.message.trace_header
            message = replace(
                entry.message,
                body=text,
                md5_of_body=md5_of(text.encode()),
                id=self._new_id(),
                sent_at=now,
                dead_letter_source=None,
                trace_header=lineage.without(trace) if trace and new_chain else trace,
                sequence=to.next_sequence() if to.fifo else None,
            )
            moved = to.put(message, visible_at=now, now=now)
            self._record.moved(name, entry, to.name, moved)
            self._tell("message.deleted", queue, entry, redrivenTo=to.name, redrivenId=message.id)
            self._journal.record(
                "message.sent", queue=to.name, message_id=message.id,
                bytes=len(message.body), body=cut(message.body),
                redrivenFrom=name, redrivenId=entry.message.id,
            )  # fmt: skip
            self._wake(to.name)
            return message

    def delete(self, name: str, receipt_handle: str) -> bool:
        """Delete a message by the handle of its most recent receive; an older one does nothing.

        Tells whether the message went. A FIFO queue refuses a handle whose visibility timeout is
        over: the message may be with someone else.
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._settle(queue, now)
            entry = queue.find(receipt_handle)
            if entry is None:
                return False
            if queue.fifo and (entry.state is not IN_FLIGHT or entry.receipt != receipt_handle):
                raise InvalidParameterValueError(
                    f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: The "
                    "receipt handle has expired."
                )
            if entry.receipt != receipt_handle:
                return False
            queue.remove(entry)
            self._record.gone(name, entry.message.id)
            self._tell("message.deleted", queue, entry)
            if queue.fifo:
                self._wake(name)
            return True

    def delete_by_id(self, name: str, message_id: str) -> bool:
        """Delete a message without a receipt handle, whatever its state; a person asks for it."""
        with self._lock:
            queue = self.get(name)
            self._settle(queue, self.clock.time())
            entry = queue.entry(message_id)
            if entry is None:
                return False
            queue.remove(entry)
            self._record.gone(name, message_id)
            self._tell("message.deleted", queue, entry)
            self._wake(name)
            return True

    def change_visibility(self, name: str, receipt_handle: str, seconds: int) -> None:
        """Count the visibility timeout anew from now; 0 returns the message to its queue."""
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._settle(queue, now)
            entry = queue.find(receipt_handle)
            if entry is None or entry.state is not IN_FLIGHT or entry.receipt != receipt_handle:
                raise InvalidParameterValueError(
                    f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: "
                    "Message does not exist or is not available for visibility timeout change."
                )
            if now + seconds > entry.received_at + VISIBILITY_LIMIT_S:
                raise InvalidParameterValueError(
                    f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total "
                    "VisibilityTimeout for the message is beyond the limit [43200 seconds]"
                )
            queue.change_visibility(entry, seconds, now)
            self._record.received(name, entry)
            self._tell("message.returned", queue, entry, visibilityTimeout=seconds)
            self._wake(name)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _nonce(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"
