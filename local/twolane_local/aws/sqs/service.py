"""The queues by name, and their messages, for the SQS API, mappings, schedules and commands.

Synchronous, in memory, on the injected clock, guarded by one lock; an operation costs the same at
any depth. Only waiting for a message is a coroutine.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs import attributes as attrs
from twolane_local.aws.sqs.errors import (
    InvalidParameterValueError,
    OverLimitError,
    PurgeQueueInProgressError,
    QueueDeletedRecentlyError,
    QueueDoesNotExistError,
    QueueNameExistsError,
    ServiceUnavailableError,
    UnknownSourceError,
)
from twolane_local.aws.sqs.queue import Queue, ReceiveAttempt
from twolane_local.journal import cut
from twolane_local.journal.files import PersistenceError
from twolane_local.model import ACCOUNT, REGION, lineage
from twolane_local.model.message import AttributeValue, Message, md5_of, md5_of_attributes
from twolane_local.model.states import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.aws.sqs.queue import QueueEntry
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model.message import Received


class Waiters:
    """Events that are set when a queue changes. ``wake`` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event of the running loop, set at the next ``wake``."""
        event = asyncio.Event()
        self._waiting[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            self._waiting.pop(event, None)

    def __len__(self) -> int:
        return len(self._waiting)

    def wake(self) -> None:
        if not self._waiting:
            return
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for event, loop in list(self._waiting.items()):
            if loop is here:
                event.set()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class ChangeLog:
    """Receives each change, in order, under the lock of the queues. This one keeps nothing."""

    def queue(self, queue: Queue) -> None:
        """A queue was created, configured or tagged."""

    def queue_deleted(self, name: str) -> None: ...

    def purged(self, name: str) -> None: ...

    def put(self, name: str, entry: QueueEntry) -> None:
        """A message was added; raises ``PersistenceError`` if it cannot be kept."""

    def received(self, name: str, entry: QueueEntry) -> None:
        """A message's receive count or visibility timeout changed."""

    def gone(self, name: str, message_id: str) -> None:
        """A message was deleted or expired."""

    def moved(self, source: str, entry: QueueEntry, target: str, moved: QueueEntry) -> None:
        """A message moved to another queue, in one step."""


#: The seconds for which a deleted queue's name is reserved, and which one purge lasts.
QUIET_S = 60.0


class QueueRegistry:
    """All queues, by name. Every method may be called from any thread.

    A queue of another region or account than the stack's has both before its name, which no other
    name can hold: ``eu-west-1:111122223333:jobs``.
    """

    def __init__(
        self, clock: Clock, journal: Journal, *, change_log: ChangeLog, account: str, region: str
    ) -> None:
        self.clock, self._journal, self._change_log = clock, journal, change_log
        self.account, self.region = account, region
        self._lock = threading.RLock()
        self._queues: dict[str, Queue] = {}
        self._deleted: dict[str, float] = {}
        self._waiters: dict[str, Waiters] = {}
        self._home = f"/{account}"

    def __contains__(self, name: str) -> bool:
        return name in self._queues

    def is_home(self, address: str) -> bool:
        """True if queues at this address are of the stack's own region and account."""
        return address.endswith(self._home) and "/queue/" not in address

    def name_in(self, region: str, account: str, name: str) -> str:
        """The name here of a queue of that region and account."""
        own = region == self.region and account == self.account and ":" not in name
        return name if own else f"{region}:{account}:{name}"

    def found_from(self, region: str, account: str, name: str) -> str:
        """The name here of the queue that a caller from there means.

        A template names neither region nor account, but an application's settings hold the real
        ones. So the template's own queues are found from everywhere; others are kept apart.
        """
        found = self.name_in(region, account, name)
        if found not in self._queues:
            queue = self._queues.get(name)
            if queue is not None and queue.declared:
                return name
        return found

    def place(self, name: str) -> tuple[str, str, str]:
        """The region and the account of a queue, and its name there."""
        if ":" not in name:
            return self.region, self.account, name
        region, account, plain = name.split(":", 2)
        return region, account, plain

    def arn(self, name: str) -> str:
        return f"arn:aws:sqs:{':'.join(self.place(name))}"

    def name_of_arn(self, arn: str) -> str:
        """The name here of the queue with that ARN."""
        parts = arn.split(":", 5)
        return self.name_in(*parts[3:]) if len(parts) == 6 else arn

    def create(
        self,
        name: str,
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Queue:
        """Create a queue, or return the existing one if its attributes are the same."""
        given = attributes or {}
        fifo = str(given.get("FifoQueue", "")).lower() == "true"
        attrs.check_name(self.place(name)[2], fifo=fifo)
        checked = attrs.check(given, fifo=fifo)
        with self._lock:
            now = self.clock.time()
            if (queue := self._queues.get(name)) is not None:
                self._check_same(queue, checked)
                return queue
            if self._deleted.get(name, -QUIET_S) > now - QUIET_S:
                raise QueueDeletedRecentlyError
            queue = Queue(name, self.arn(name), checked, tags or {}, now)
            self._queues[name] = queue
            self._change_log.queue(queue)
            self.wake(name)
            return queue

    def ensure(
        self,
        name: str,
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Queue:
        """Create or configure a queue with exactly these attributes, as a template declares it."""
        with self._lock:
            queue = self._queues.get(name)
            if queue is None:
                self._deleted.pop(name, None)
                queue = self.create(name, attributes, tags)
                queue.declared = True
                return queue
            queue.declared = True
            checked = attrs.check(attributes or {}, fifo=queue.fifo)
            queue.tags = dict(tags or {})
            queue.attributes = attrs.merged(attrs.defaults(fifo=queue.fifo), checked)
            queue.configure({}, self.clock.time())
            self._change_log.queue(queue)
            self.wake(name)
            return queue

    def adopt(self, queue: Queue) -> None:
        """Add a queue with its messages, restored by persistence."""
        with self._lock:
            self._queues[queue.name] = queue
            self.wake(queue.name)

    def log_changes_to(self, change_log: ChangeLog) -> None:
        self._change_log = change_log

    @staticmethod
    def _check_same(queue: Queue, checked: Mapping[str, str]) -> None:
        for key, value in checked.items():
            if queue.attributes.get(key, "") != value:
                raise QueueNameExistsError(
                    "A queue already exists with the same name and a different value for "
                    f"attribute {key}"
                )

    def get(self, name: str) -> Queue:
        """The queue of that name; raises ``QueueDoesNotExistError``."""
        try:
            return self._queues[name]
        except KeyError:
            raise QueueDoesNotExistError from None

    def get_by_arn(self, arn: str) -> Queue:
        queue = self._queues.get(self.name_of_arn(arn))
        if queue is None or queue.arn != arn:
            raise QueueDoesNotExistError(f"The specified queue {arn} does not exist.")
        return queue

    def names(self) -> list[str]:
        return sorted(self._queues)

    def refreshed(self, name: str) -> Queue:
        """The queue, brought up to the present time: its counts are current."""
        with self._lock:
            queue = self.get(name)
            self._refresh(queue, self.clock.time())
            return queue

    def noisy_groups(self, name: str) -> dict[str, int]:
        """The number of visible messages of each noisy message group of a fair queue."""
        with self._lock:
            return self.refreshed(name).noisy_groups()

    def configure(self, name: str, attributes: Mapping[str, str]) -> None:
        with self._lock:
            queue = self.get(name)
            checked = attrs.check(attributes, fifo=queue.fifo, current=queue.attributes)
            queue.configure(checked, self.clock.time())
            self._change_log.queue(queue)
            self.wake(name)

    def tag(self, name: str, tags: Mapping[str, str | None]) -> None:
        """Set tags; ``None`` removes one."""
        with self._lock:
            queue = self.get(name)
            merged = {**queue.tags, **tags}
            queue.tags = {key: value for key, value in merged.items() if value is not None}
            self._change_log.queue(queue)

    def delete_queue(self, name: str, *, name_is_free: bool = False) -> None:
        """Delete a queue with its messages. Its name stays reserved for 60 seconds, unless
        ``name_is_free``, which a changed template needs.
        """
        with self._lock:
            self.get(name)
            del self._queues[name]
            if not name_is_free:
                self._deleted[name] = self.clock.time()
            self._change_log.queue_deleted(name)
            self.wake(name)

    def purge(self, name: str) -> int:
        """Remove every message and return their number; allowed once in 60 seconds."""
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            if queue.purged_at is not None and queue.purged_at > now - QUIET_S:
                raise PurgeQueueInProgressError(
                    f"Only one PurgeQueue operation on {self.place(name)[2]} is allowed every 60 "
                    "seconds."
                )
            queue.purged_at = now
            gone = queue.clear()
            self._change_log.purged(name)
            self._journal.record("queue.purged", queue=name, messages=gone)
            return gone

    async def wait(self, name: str, timeout_s: float | None) -> bool:
        """Return True once a message can be received, False after ``timeout_s``."""
        deadline = None if timeout_s is None else self.clock.time() + timeout_s
        while not await self.pause(name, deadline):
            if deadline is not None and self.clock.time() >= deadline:
                return False
        return True

    async def pause(self, name: str, deadline: float | None) -> bool:
        """Return True if a message can be received, else False at the next change of the queue or
        at ``deadline`` on the clock.
        """
        with self._waiters.setdefault(name, Waiters()).watch() as changed:
            with self._lock:
                queue, now = self.get(name), self.clock.time()
                self._refresh(queue, now)
                if queue.ready():
                    return True
                due = queue.next_due()
            if deadline is not None and deadline <= now:
                return False
            ends = [at for at in (due, deadline) if at is not None]
            await self.clock.wait(changed, max(0.0, min(ends) - now) if ends else None)
        return False

    async def exists(self, name: str) -> None:
        """Return once a queue of that name exists."""
        while name not in self._queues:
            with self._waiters.setdefault(name, Waiters()).watch() as changed:
                await self.clock.wait(changed, None)

    def waiting(self, name: str) -> int:
        """The number of long polls and mappings that wait for messages of the queue."""
        waiters = self._waiters.get(name)
        return 0 if waiters is None else len(waiters)

    def wake(self, name: str) -> None:
        """Make everything that waits for the queue look again."""
        if (waiters := self._waiters.get(name)) is not None:
            waiters.wake()

    def _refresh(self, queue: Queue, now: float) -> None:
        returned, expired = queue.refresh(now)
        for entry in returned:
            self._journal_change("message.returned", queue, entry)
        for entry in expired:
            self._change_log.gone(queue.name, entry.message.id)
            self._journal_change("message.expired", queue, entry)

    def _journal_change(self, kind: str, queue: Queue, entry: QueueEntry, **data: Any) -> None:
        self._journal.record(
            kind, queue=queue.name, message_id=entry.message.id,
            receiveCount=entry.receive_count, **data,
        )  # fmt: skip


#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
IN_FLIGHT_LIMIT = 120_000
VISIBILITY_LIMIT_S = 43_200


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to send. If ``delay_s`` is ``None``, the queue's delay applies."""

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
        change_log: ChangeLog | None = None,
        account: str = ACCOUNT,
        region: str = REGION,
    ) -> None:
        """``rng`` makes message ids and receipt handles, so that a seeded run repeats exactly;
        ``change_log`` receives each change before it is acknowledged.
        """
        super().__init__(
            clock, journal, change_log=change_log or ChangeLog(), account=account, region=region
        )
        self._rng = rng or random.Random()  # noqa: S311 - ids only, no secret

    def send(self, name: str, new: NewMessage) -> Message:
        """Put a message on a queue; for a duplicate on a FIFO queue, returns the first message."""
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._refresh(queue, now)
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

    def _put(self, queue: Queue, message: Message, *, visible_at: float, now: float) -> QueueEntry:
        entry = queue.put(message, visible_at=visible_at, now=now)
        try:
            self._change_log.put(queue.name, entry)
        except PersistenceError as error:
            queue.remove(entry)  # it is not acknowledged
            raise ServiceUnavailableError(str(error)) from error
        delay: dict[str, Any] = {"delaySeconds": visible_at - now} if visible_at > now else {}
        self._journal.record(
            "message.sent", queue=queue.name, message_id=message.id,
            bytes=len(message.body), body=cut(message.body), **delay,
        )  # fmt: skip
        self.wake(queue.name)
        return entry

    def receive(
        self,
        name: str,
        limit: int = 1,
        *,
        visibility_s: float | None = None,
        attempt_id: str | None = None,
    ) -> list[Received]:
        """Receive up to ``limit`` messages without waiting; they are in flight from now on.

        A message received ``maxReceiveCount`` times before goes to the dead-letter queue instead.
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._refresh(queue, now)
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
                exhausted=lambda entry: self._redrive(queue, entry, now),
                nonce=lambda: f"{self._rng.getrandbits(64):016x}",
            )  # fmt: skip
            for received in handed:
                entry = queue.find(received.receipt_handle)
                if entry is not None:
                    self._change_log.received(name, entry)
                    self._journal_change("message.received", queue, entry, visibleAt=entry.due_at)
            if attempt_id is not None and queue.fifo and handed:
                self._remember_attempt(queue, attempt_id, handed, now)
            return handed

    def _remember_attempt(
        self, queue: Queue, attempt_id: str, handed: list[Received], now: float
    ) -> None:
        entries = [queue.find(received.receipt_handle) for received in handed]
        epochs = tuple(entry.epoch for entry in entries if entry is not None)
        queue.deduplication.attempts.set(attempt_id, ReceiveAttempt(tuple(handed), epochs), now)

    def _repeat_attempt(
        self, queue: Queue, attempt_id: str, visibility_s: float | None, now: float
    ) -> list[Received] | None:
        """The same messages and handles again, ``None`` if one of them has changed since.

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
            self._change_log.received(queue.name, entry)
        self._remember_attempt(queue, attempt_id, list(attempt.messages), now)
        return list(attempt.messages)

    def _redrive(self, queue: Queue, entry: QueueEntry, now: float) -> bool:
        """Move a message that was received too often; returns True if it was moved.

        Standard queues keep the time of sending, FIFO queues reset it:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
        Unverified (`receive-count`): the receive count continues on the dead-letter queue.
        """
        target = queue.settings.dead_letter_arn
        if target is None or entry.receive_count < queue.settings.max_receive_count:
            return False
        dead = self._queues.get(self.name_of_arn(target))
        if dead is None or dead is queue:
            return False
        message = replace(entry.message, dead_letter_source=queue.arn)
        if dead.fifo:
            message = replace(message, sent_at=now, sequence=dead.next_sequence())
        queue.discard_taken(entry)
        moved = dead.put(message, visible_at=now, now=now)
        moved.receive_count = entry.receive_count
        moved.first_received_at = entry.first_received_at
        self._change_log.moved(queue.name, entry, dead.name, moved)
        self._journal_change("message.dead_lettered", queue, entry, deadLetterQueue=dead.name)
        self.wake(dead.name)
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
        """Move the next visible message of a dead-letter queue to ``target`` or to its source.

        Returns ``None`` if none is visible. ``message_id`` selects a message in any state, ``body``
        replaces its body. ``new_chain`` removes its lineage, with which Lambda's recursive-loop
        detection would stop it again.

        The moved message has a new id and time of sending:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._refresh(queue, now)
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
                trace_header=lineage.without_lineage(trace) if trace and new_chain else trace,
                sequence=to.next_sequence() if to.fifo else None,
            )
            moved = to.put(message, visible_at=now, now=now)
            self._change_log.moved(name, entry, to.name, moved)
            self._journal_change(
                "message.deleted", queue, entry, redrivenTo=to.name, redrivenId=message.id
            )
            self._journal.record(
                "message.sent", queue=to.name, message_id=message.id,
                bytes=len(message.body), body=cut(message.body),
                redrivenFrom=name, redrivenId=entry.message.id,
            )  # fmt: skip
            self.wake(to.name)
            return message

    def delete(self, name: str, receipt_handle: str) -> bool:
        """Delete a message by the handle of its most recent receive; an older one does nothing.

        Returns True if the message was deleted. A FIFO queue refuses a handle whose visibility
        timeout is over, as another consumer may have the message.
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._refresh(queue, now)
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
            self._change_log.gone(name, entry.message.id)
            self._journal_change("message.deleted", queue, entry)
            if queue.fifo:
                self.wake(name)
            return True

    def delete_by_id(self, name: str, message_id: str) -> bool:
        """Delete a message in any state without a receipt handle, for commands and the console."""
        with self._lock:
            queue = self.get(name)
            self._refresh(queue, self.clock.time())
            entry = queue.entry(message_id)
            if entry is None:
                return False
            queue.remove(entry)
            self._change_log.gone(name, message_id)
            self._journal_change("message.deleted", queue, entry)
            self.wake(name)
            return True

    def change_visibility(self, name: str, receipt_handle: str, seconds: int) -> None:
        """Restart the visibility timeout now; 0 returns the message to its queue.

        On a standard queue any handle of the message will do, also one whose timeout is over. A
        FIFO queue refuses such a handle, as another consumer may have the message.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
        """
        with self._lock:
            queue, now = self.get(name), self.clock.time()
            self._refresh(queue, now)
            entry = queue.find(receipt_handle)
            if entry is None or (
                queue.fifo and (entry.state is not IN_FLIGHT or entry.receipt != receipt_handle)
            ):
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
            self._change_log.received(name, entry)
            self._journal_change("message.returned", queue, entry, visibilityTimeout=seconds)
            self.wake(name)

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
