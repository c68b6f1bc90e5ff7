"""The queues by name: creates, finds, configures, tags, purges, deletes and waits for them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs import attributes as attrs
from twolane_local.aws.sqs.errors import (
    PurgeQueueInProgressError,
    QueueDeletedRecentlyError,
    QueueDoesNotExistError,
    QueueNameExistsError,
)
from twolane_local.aws.sqs.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.aws.sqs.order import QueueEntry
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal


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
    """All queues, by name. Every method may be called from any thread."""

    def __init__(
        self, clock: Clock, journal: Journal, *, change_log: ChangeLog, account: str, region: str
    ) -> None:
        self.clock, self._journal, self._change_log = clock, journal, change_log
        self.account, self.region = account, region
        self._lock = threading.RLock()
        self._queues: dict[str, Queue] = {}
        self._deleted: dict[str, float] = {}
        self._waiters: dict[str, Waiters] = {}

    def arn(self, name: str) -> str:
        return f"arn:aws:sqs:{self.region}:{self.account}:{name}"

    def create(
        self,
        name: str,
        attributes: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Queue:
        """Create a queue, or return the existing one if its attributes are the same."""
        given = attributes or {}
        fifo = str(given.get("FifoQueue", "")).lower() == "true"
        attrs.check_name(name, fifo=fifo)
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
                return self.create(name, attributes, tags)
            blank = dict.fromkeys(attrs.DOCUMENTS, "")
            checked = attrs.check(attributes or {}, fifo=queue.fifo)
            queue.tags = dict(tags or {})
            self.configure(name, {**attrs.defaults(fifo=queue.fifo), **blank, **checked})
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
        queue = self._queues.get(arn.rpartition(":")[2])
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

    def configure(self, name: str, attributes: Mapping[str, str]) -> None:
        with self._lock:
            queue = self.get(name)
            queue.configure(attrs.check(attributes, fifo=queue.fifo), self.clock.time())
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
                    f"Only one PurgeQueue operation on {name} is allowed every 60 seconds."
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
