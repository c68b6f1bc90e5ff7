"""One queue in memory: every operation costs the same at ten messages and at a million.

Nothing runs in the background. Each operation first *settles* the queue at the present time:
delayed messages and those whose visibility timeout is over become visible, and those older than
the retention period go. A message is delayed, visible, in flight or gone:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from twolane_local.aws.sqs.attributes import DOCUMENTS, Settings, defaults, settings_of
from twolane_local.aws.sqs.errors import ReceiptHandleIsInvalidError
from twolane_local.aws.sqs.order import Entry, FifoOrder, Order, Retention, StandardOrder
from twolane_local.model.message import Received
from twolane_local.model.states import DELAYED, GONE, IN_FLIGHT, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.model.message import Message


class Timed(Protocol):
    """What a timetable holds; ``epoch`` changes whenever its entry stops being true."""

    epoch: int


T = TypeVar("T", bound=Timed)


class Timetable(Generic[T]):
    """Times of items, in order. An item whose ``epoch`` moved on is skipped, and swept in time.

    Entries are never searched for: calling one off is a counter, and once half of the heap is
    called off, one sweep removes those, so that deleted messages do not stay in memory until
    their visibility timeout or retention period ends.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, T]] = []
        self._order = 0
        self._stale = 0

    def add(self, at: float, item: T) -> None:
        """Have ``item`` come up at ``at``, as long as its epoch stays as it is now."""
        self._order += 1
        heappush(self._heap, (at, self._order, item.epoch, item))

    def call_off(self) -> None:
        """Tell that one item that is on the timetable has just changed its epoch."""
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] == entry[3].epoch]
            heapify(self._heap)
            self._stale = 0

    def next_at(self) -> float | None:
        """When the next item comes up."""
        self._skip()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> T | None:
        """Take the next item that is due, ``None`` if there is none."""
        self._skip()
        if self._heap and self._heap[0][0] <= now:
            return heappop(self._heap)[3]
        return None

    def clear(self) -> None:
        self._heap.clear()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._heap)

    def _skip(self) -> None:
        heap = self._heap
        while heap and heap[0][2] != heap[0][3].epoch:
            heappop(heap)
            self._stale = max(0, self._stale - 1)


INTERVAL_S = 300.0

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key for five minutes from when they were first set."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, V]] = {}
        self._order: deque[tuple[float, str]] = deque()

    def get(self, key: str, now: float) -> V | None:
        while self._order and self._order[0][0] <= now - INTERVAL_S:
            at, old = self._order.popleft()
            if self._values.get(old, (None,))[0] == at:
                del self._values[old]
        found = self._values.get(key)
        return found[1] if found else None

    def set(self, key: str, value: V, now: float) -> None:
        self._values[key] = (now, value)
        self._order.append((now, key))

    def values(self) -> list[V]:
        """What is remembered, in the order in which it was set."""
        return [value for _, value in self._values.values()]

    def forget(self, key: str) -> None:
        self._values.pop(key, None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a receive with a ReceiveRequestAttemptId gave, and the visibility that it set."""

    messages: tuple[Received, ...]
    epochs: tuple[int, ...]


class Deduplication:
    """Sends by deduplication id, receives by attempt id."""

    def __init__(self) -> None:
        self.sends: Recent[Message] = Recent()
        self.attempts: Recent[Attempt] = Recent()


@dataclass(frozen=True, slots=True)
class Place:
    """What changes about a message as it is received; times in epoch seconds, ``due`` 0.0 where it
    is visible.
    """

    due: float
    receives: int
    first_at: float
    last_at: float
    receipt: str | None


class Queue:
    """The messages of one queue. Not thread-safe: ``QueueService`` holds the lock."""

    def __init__(
        self,
        name: str,
        arn: str,
        attributes: Mapping[str, str],
        tags: Mapping[str, str],
        now: float,
    ) -> None:
        fifo = attributes.get("FifoQueue") == "true"
        self.name, self.arn = name, arn
        self.attributes: dict[str, str] = {**defaults(fifo=fifo), **attributes}
        self.settings: Settings = settings_of(self.attributes)
        self.tags = dict(tags)
        self.created_at = self.modified_at = now
        self.purged_at: float | None = None
        self.deduplication = Deduplication()
        self.sent = 0  # messages so far
        self._entries: dict[str, Entry] = {}
        self._due: Timetable[Entry] = Timetable()
        self._ages: Timetable[Retention] = Timetable()
        self._order: Order = FifoOrder() if fifo else StandardOrder()
        self._counts = {DELAYED: 0, VISIBLE: 0, IN_FLIGHT: 0}

    def configure(self, attributes: Mapping[str, str], now: float) -> None:
        """Set checked attributes; an empty document removes the attribute."""
        self.attributes.update(attributes)
        for name in DOCUMENTS:
            if self.attributes.get(name) == "":
                del self.attributes[name]
        self.settings = settings_of(self.attributes)
        self.modified_at = now

    @property
    def fifo(self) -> bool:
        return self.settings.fifo

    def count(self, state: str) -> int:
        """How many messages are ``DELAYED``, ``VISIBLE`` or ``IN_FLIGHT``."""
        return self._counts[state]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def next_sequence(self) -> str:
        """The next SequenceNumber: 20 digits, rising (its size and steps are not documented)."""
        return f"{18_850_000_000_000_000_000 + self.sent + 1:020d}"

    def put(self, message: Message, *, visible_at: float, now: float) -> Entry:
        """Add a message that becomes visible at ``visible_at``."""
        self.sent += 1
        entry = Entry(message, self.sent)
        entry.state = DELAYED if visible_at > now else VISIBLE
        self._counts[entry.state] += 1
        self._entries[message.id] = entry
        self._ages.add(message.sent_at, entry.retained)
        if entry.state is DELAYED:
            entry.due_at = visible_at
            self._due.add(visible_at, entry)
        self._order.add(entry)
        return entry

    def restore(self, message: Message, position: int, place: Place, now: float) -> None:
        """Put a message back where it was before the process ended."""
        entry = Entry(message, position)
        entry.receive_count, entry.receipt = place.receives, place.receipt
        entry.first_received_at, entry.received_at = place.first_at, place.last_at
        if place.due > now:
            entry.state = IN_FLIGHT if place.receipt is not None else DELAYED
            entry.due_at = place.due
            self._due.add(place.due, entry)
        self._counts[entry.state] += 1
        self._entries[message.id] = entry
        self._ages.add(message.sent_at, entry.retained)
        if entry.state is IN_FLIGHT:
            self._order.held(entry)
        else:
            self._order.add(entry)

    def duplicate_of(
        self, group_id: str | None, deduplication_id: str, now: float
    ) -> Message | None:
        """The message that was sent with the same deduplication id in the last five minutes."""
        return self.deduplication.sends.get(self._key(group_id, deduplication_id), now)

    def remember(self, message: Message, now: float) -> None:
        """Have duplicates of a message be dropped for five minutes."""
        key = self._key(message.group_id, message.deduplication_id or "")
        self.deduplication.sends.set(key, message, now)

    def _key(self, group_id: str | None, deduplication_id: str) -> str:
        by_group = self.settings.deduplicate_by_group
        return f"{group_id}\0{deduplication_id}" if by_group else deduplication_id

    def settle(self, now: float) -> tuple[list[Entry], list[Entry]]:
        """Bring the queue up to ``now``: whose visibility timeout ended, and whose retention
        period.
        """
        returned: list[Entry] = []
        while (entry := self._due.pop_due(now)) is not None:
            if entry.state is IN_FLIGHT:
                returned.append(entry)
            self._become_visible(entry)
        expired: list[Entry] = []
        # A message in flight goes too: retention counts from when the message was sent.
        while (retention := self._ages.pop_due(now - self.settings.retention_s)) is not None:
            expired.append(retention.entry)
            self._drop(retention.entry, on_ages=False)
        return returned, expired

    def _become_visible(self, entry: Entry) -> None:
        was = entry.state
        self._move(entry, VISIBLE)
        if was is DELAYED and self.fifo:
            self._order.became_visible(entry)
        else:
            self._order.give_back(entry)

    def _move(self, entry: Entry, state: str) -> None:
        self._counts[entry.state] -= 1
        entry.epoch += 1
        entry.state = state
        if state is not GONE:
            self._counts[state] += 1

    def ready(self) -> bool:
        """Whether a receive would find a message now."""
        return self._order.first() is not None

    def peek(self) -> Entry | None:
        """The message that a receive would find first."""
        return self._order.first()

    def next_due(self) -> float | None:
        """When the next delayed or in-flight message becomes visible."""
        return self._due.next_at()

    def receive(
        self, limit: int, visibility_s: float, now: float, *,
        exhausted: Callable[[Entry], bool], nonce: Callable[[], str],
    ) -> list[Received]:  # fmt: skip
        """Hand out up to ``limit`` messages; what is ``exhausted`` is left to its new owner."""
        handed: list[Received] = []

        def accept(entry: Entry) -> bool:
            if exhausted(entry):
                return False
            handed.append(self._hand_out(entry, visibility_s, now, nonce()))
            return True

        self._order.take(limit, accept)
        # With a timeout of 0 they are visible again at once, but only to the next receive.
        for entry in [self._entries[r.message.id] for r in handed] if visibility_s <= 0 else ():
            self._become_visible(entry)
        return handed

    def _hand_out(self, entry: Entry, visibility_s: float, now: float, nonce: str) -> Received:
        self._move(entry, IN_FLIGHT)
        entry.receive_count += 1
        if entry.receive_count == 1:
            entry.first_received_at = now
        entry.received_at = now
        entry.due_at = now + visibility_s
        if visibility_s > 0:
            self._due.add(entry.due_at, entry)
        entry.receipt = self._handle(entry, nonce)
        return Received(entry.message, entry.receipt, entry.receive_count, entry.first_received_at)

    def _handle(self, entry: Entry, nonce: str) -> str:
        text = f"{self.name} {entry.message.id} {nonce}"
        return base64.b64encode(text.encode()).decode()

    def find(self, handle: str) -> Entry | None:
        """The message that the handle was given out for; ``None`` once that is gone.

        Raises for what is not a handle of this queue.
        """
        try:
            name, message_id, _ = base64.b64decode(handle, validate=True).decode().split(" ")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise ReceiptHandleIsInvalidError(
                f'The input receipt handle "{handle}" is not a valid receipt handle.'
            ) from None
        if name != self.name:
            raise ReceiptHandleIsInvalidError(
                f'The input receipt handle "{handle}" is not a receipt handle of {self.name}.'
            )
        return self._entries.get(message_id)

    def oldest(self) -> float | None:
        """When the message was sent that is on the queue for longest."""
        return next((entry.message.sent_at for entry in self._entries.values()), None)

    def entry(self, message_id: str) -> Entry | None:
        """The message of that id, whatever its state."""
        return self._entries.get(message_id)

    def change_visibility(self, entry: Entry, seconds: float, now: float) -> None:
        """Count the visibility timeout of a message in flight anew from ``now``."""
        if seconds <= 0:
            self._become_visible(entry)
            self._due.call_off()
            return
        entry.epoch += 1
        self._due.call_off()
        entry.due_at = now + seconds
        self._due.add(entry.due_at, entry)

    def remove(self, entry: Entry) -> None:
        """Take a message off the queue, whatever its state."""
        self._drop(entry)

    def _drop(self, entry: Entry, *, on_ages: bool = True) -> None:
        was = entry.state
        self._move(entry, GONE)
        entry.retained.epoch += 1
        del self._entries[entry.message.id]
        if was is not VISIBLE:
            self._due.call_off()
        if on_ages:
            self._ages.call_off()
        if was is IN_FLIGHT:
            self._order.released(entry)
        else:
            self._order.withdrawn(entry)

    def discard_taken(self, entry: Entry) -> None:
        """Forget a message that ``receive`` offered as exhausted: its order has let go of it."""
        self._move(entry, GONE)
        entry.retained.epoch += 1
        self._ages.call_off()
        del self._entries[entry.message.id]

    def clear(self) -> int:
        """Remove all messages, those in flight as well; tells how many."""
        gone = len(self._entries)
        for entry in self._entries.values():
            entry.state = GONE
            entry.epoch += 1
        self._entries.clear()
        self._due.clear()
        self._ages.clear()
        self._order = FifoOrder() if self.fifo else StandardOrder()
        self._counts = dict.fromkeys(self._counts, 0)
        return gone
