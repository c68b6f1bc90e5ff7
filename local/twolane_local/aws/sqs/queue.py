"""One queue in memory: every operation costs the same at ten messages and at a million.

Nothing runs in the background. Each operation first *refreshes* the queue: delayed messages and
those whose visibility timeout is over become visible, and those older than the retention period
are removed. A message is delayed, visible, in flight or gone:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
The order in which visible messages are handed out is that of ``Order`` and nothing else.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from twolane_local.aws.sqs.attributes import Settings, defaults, merged, settings_of
from twolane_local.aws.sqs.errors import ReceiptHandleIsInvalidError
from twolane_local.aws.sqs.fairness import FairOrder
from twolane_local.model.message import Received
from twolane_local.model.states import DELAYED, GONE, IN_FLIGHT, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.model.message import Message


class QueueEntry:
    """A message on a queue, with the state that changes."""

    __slots__ = (
        "due_at", "epoch", "first_received_at", "message", "position", "receipt", "receive_count",
        "received_at", "retained", "state", "turn",
    )  # fmt: skip

    def __init__(self, message: Message, position: int) -> None:
        self.message = message
        self.position = position  # in the order of sending, and so of a FIFO group
        self.state = VISIBLE
        self.epoch = 0  # increases with each change of state
        self.due_at = 0.0  # when a delayed or in-flight message becomes visible
        self.receive_count = 0
        self.first_received_at = 0.0
        self.received_at = 0.0  # most recently
        self.receipt: str | None = None  # of the most recent receive
        self.turn = 0  # on a standard queue: its place among those that wait
        self.retained = Retention(self)


class Retention:
    """An item on the timetable of retention periods, valid until the message is gone."""

    __slots__ = ("entry", "epoch")

    def __init__(self, entry: QueueEntry) -> None:
        self.entry = entry
        self.epoch = 0


class Order(Protocol):
    """The visible messages of a queue in the order in which they are handed out.

    ``now`` is the time of the present operation.
    """

    now: float

    def add(self, entry: QueueEntry) -> None:
        """Add an entry that is delayed or visible."""

    def held(self, entry: QueueEntry) -> None:
        """Add an entry that is in flight."""

    def became_visible(self, entry: QueueEntry) -> None:
        """A delayed entry is due."""

    def give_back(self, entry: QueueEntry) -> None:
        """An entry in flight is visible again."""

    def hidden(self, entry: QueueEntry) -> None:
        """A visible entry is in flight, without being taken."""

    def released(self, entry: QueueEntry) -> None:
        """An entry in flight is gone."""

    def withdrawn(self, entry: QueueEntry) -> None:
        """An entry that was delayed or visible is gone."""

    def take(self, limit: int, accept: Callable[[QueueEntry], bool]) -> None:
        """Offer entries to ``accept`` until it has accepted ``limit`` or none is left.

        ``accept`` returns True if the entry is in flight from now on, False if it left the queue.
        """

    def first(self) -> QueueEntry | None:
        """The entry that ``take`` would offer first."""


class StandardOrder:
    """Best-effort ordering: what was sent or received longest ago comes first.

    A message that failed comes back before those that were sent after its last receive, and
    cannot keep others waiting for ever: each receive moves it to the end.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues.html
    """

    now = 0.0

    def __init__(self) -> None:
        self._new: deque[tuple[int, QueueEntry]] = deque()  # never received, by turn
        self._again: list[tuple[int, int, QueueEntry]] = []  # a heap by turn: visible again
        self._turns = 0

    def _to_the_end(self, entry: QueueEntry) -> None:
        self._turns += 1
        entry.turn = self._turns

    held = _to_the_end

    def add(self, entry: QueueEntry) -> None:
        if entry.state is VISIBLE:
            self.became_visible(entry)

    def became_visible(self, entry: QueueEntry) -> None:
        self._to_the_end(entry)
        self._new.append((entry.epoch, entry))

    def give_back(self, entry: QueueEntry) -> None:
        heappush(self._again, (entry.turn, entry.epoch, entry))

    def released(self, entry: QueueEntry) -> None:
        """Does nothing: messages of a standard queue do not wait for each other."""

    withdrawn = hidden = released

    def take(self, limit: int, accept: Callable[[QueueEntry], bool]) -> None:
        taken = 0
        while taken < limit and (entry := self.first()) is not None:
            if self._new and self._new[0][1] is entry:
                self._new.popleft()
            else:
                heappop(self._again)
            self._to_the_end(entry)
            taken += accept(entry)

    def first(self) -> QueueEntry | None:
        new, again = self._new, self._again
        # An entry whose epoch has changed was hidden or deleted by a receipt handle.
        while new and new[0][0] != new[0][1].epoch:
            new.popleft()
        if not again:
            return new[0][1] if new else None
        while again and again[0][1] != again[0][2].epoch:
            heappop(again)
        if again and (not new or again[0][0] < new[0][1].turn):
            return again[0][2]
        return new[0][1] if new else None


@dataclass(slots=True)
class _Group:
    turn: int
    #: Heaps by position. An entry that waits is valid while its epoch is the same, one in flight
    #: while it is in flight.
    waiting: list[tuple[int, int, QueueEntry]] = field(default_factory=list)
    in_flight: list[tuple[int, int, QueueEntry]] = field(default_factory=list)
    offered: bool = False

    def wait(self, entry: QueueEntry) -> None:
        heappush(self.waiting, (entry.position, entry.epoch, entry))

    def fly(self, entry: QueueEntry) -> None:
        heappush(self.in_flight, (entry.position, entry.epoch, entry))

    def head(self) -> QueueEntry | None:
        """The message that may be handed out.

        Only messages behind one that is delayed or in flight wait for it.
        """
        waiting, in_flight = self.waiting, self.in_flight
        while waiting and waiting[0][1] != waiting[0][2].epoch:
            heappop(waiting)
        while in_flight and in_flight[0][2].state is not IN_FLIGHT:
            heappop(in_flight)
        if not waiting or waiting[0][2].state is not VISIBLE:
            return None
        return None if in_flight and in_flight[0][0] < waiting[0][0] else waiting[0][2]


class FifoOrder:
    """Strict order within a message group; groups take turns, and a served one goes to the back.

    A message in flight keeps those of its group back that were sent after it, until it is deleted
    or visible again. One receive takes several messages of a group if it can:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
    """

    now = 0.0

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._heads: list[tuple[int, str]] = []  # a heap: the groups that have a head, by turn
        self._turns = 0

    def _turn(self) -> int:
        self._turns += 1
        return self._turns

    def _group(self, entry: QueueEntry) -> tuple[str, _Group]:
        name = entry.message.group_id or ""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(self._turn())
        elif entry.receive_count:  # restored: its group was served then
            group.turn = self._turn()
            group.offered = False
        return name, group

    def add(self, entry: QueueEntry) -> None:
        name, group = self._group(entry)
        group.wait(entry)
        if not group.offered:
            self._offer(name, group)

    def held(self, entry: QueueEntry) -> None:
        self._group(entry)[1].fly(entry)

    def became_visible(self, entry: QueueEntry) -> None:
        name = entry.message.group_id or ""
        self._groups[name].wait(entry)
        self._offer(name, self._groups[name])

    give_back = became_visible

    def hidden(self, entry: QueueEntry) -> None:
        self._groups[entry.message.group_id or ""].fly(entry)

    def released(self, entry: QueueEntry) -> None:
        name = entry.message.group_id or ""
        self._offer(name, self._groups[name])

    withdrawn = released

    def take(self, limit: int, accept: Callable[[QueueEntry], bool]) -> None:
        left = limit
        while left and self.first() is not None:
            name = heappop(self._heads)[1]
            group = self._groups[name]
            group.turn, group.offered = self._turn(), False
            taken: list[QueueEntry] = []
            while len(taken) < left and (entry := group.head()) is not None:
                heappop(group.waiting)
                if accept(entry):
                    taken.append(entry)
            for entry in taken:
                group.fly(entry)
            left -= len(taken)
            self._offer(name, group)

    def first(self) -> QueueEntry | None:
        heads = self._heads
        while heads:
            turn, name = heads[0]
            group = self._groups.get(name)
            if group is not None and group.turn == turn:
                if (head := group.head()) is not None:
                    return head
                group.offered = False  # until one of its messages comes back
            heappop(heads)
        return None

    def _offer(self, name: str, group: _Group) -> None:
        if group.head() is not None:
            if not group.offered:
                group.offered = True
                heappush(self._heads, (group.turn, name))
        elif not group.waiting and not group.in_flight:
            self._groups.pop(name, None)


class TimetableItem(Protocol):
    """An item of a timetable; a change of ``epoch`` makes its entries invalid."""

    epoch: int


T = TypeVar("T", bound=TimetableItem)


class Timetable(Generic[T]):
    """Items in the order of their times. An item whose ``epoch`` has changed is skipped.

    ``call_off`` searches for nothing: it counts, and removes all invalid entries at once when they
    are half of the heap. Deleted messages therefore do not stay in memory until their visibility
    timeout or retention period ends.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, T]] = []
        self._order = 0
        self._stale = 0

    def add(self, at: float, item: T) -> None:
        """Add ``item`` at the time ``at``; valid while its epoch stays the same."""
        self._order += 1
        heappush(self._heap, (at, self._order, item.epoch, item))

    def call_off(self) -> None:
        """Count one item of the timetable whose epoch has just changed."""
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] == entry[3].epoch]
            heapify(self._heap)
            self._stale = 0

    def next_at(self) -> float | None:
        """The time of the next item."""
        self._skip()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> T | None:
        """Remove and return the next item that is due, ``None`` if there is none."""
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


class RecentValues(Generic[V]):
    """Values by key, kept for five minutes."""

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
        """The values, in the order in which they were set."""
        return [value for _, value in self._values.values()]

    def forget(self, key: str) -> None:
        self._values.pop(key, None)


@dataclass(frozen=True, slots=True)
class ReceiveAttempt:
    """The result of a receive with a ReceiveRequestAttemptId; ``epochs`` are its messages' own."""

    messages: tuple[Received, ...]
    epochs: tuple[int, ...]


class Deduplication:
    """Recent sends by deduplication id, and recent receives by attempt id."""

    def __init__(self) -> None:
        self.sends: RecentValues[Message] = RecentValues()
        self.attempts: RecentValues[ReceiveAttempt] = RecentValues()


@dataclass(frozen=True, slots=True)
class ReceiveState:
    """What receives change about a message; times in epoch seconds, ``due`` 0.0 if visible."""

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
        self.attributes = merged(defaults(fifo=fifo), attributes)
        self.settings: Settings = settings_of(self.attributes)
        self.tags = dict(tags)
        self.created_at = self.modified_at = now
        self.purged_at: float | None = None
        self.declared = False  # by the stack's template
        self.deduplication = Deduplication()
        self.sent = 0  # messages so far
        self._entries: dict[str, QueueEntry] = {}
        self._due: Timetable[QueueEntry] = Timetable()
        self._ages: Timetable[Retention] = Timetable()
        self._order: Order = FifoOrder() if fifo else StandardOrder()
        self._counts = {DELAYED: 0, VISIBLE: 0, IN_FLIGHT: 0}

    def configure(self, attributes: Mapping[str, str], now: float) -> None:
        """Set checked attributes; an empty document removes the attribute."""
        self.attributes = merged(self.attributes, attributes)
        self.settings = settings_of(self.attributes)
        self.modified_at = now

    @property
    def fifo(self) -> bool:
        return self.settings.fifo

    def count(self, state: str) -> int:
        """The number of messages that are ``DELAYED``, ``VISIBLE`` or ``IN_FLIGHT``."""
        return self._counts[state]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[QueueEntry]:
        return iter(tuple(self._entries.values()))

    def next_sequence(self) -> str:
        """The next SequenceNumber: 20 digits, ascending (AWS documents neither size nor steps)."""
        return f"{18_850_000_000_000_000_000 + self.sent + 1:020d}"

    def put(self, message: Message, *, visible_at: float, now: float) -> QueueEntry:
        """Add a message that becomes visible at ``visible_at``."""
        if message.group_id is not None:
            self._be_fair(now)
        self.sent += 1
        entry = QueueEntry(message, self.sent)
        entry.state = DELAYED if visible_at > now else VISIBLE
        self._counts[entry.state] += 1
        self._entries[message.id] = entry
        self._ages.add(message.sent_at, entry.retained)
        if entry.state is DELAYED:
            entry.due_at = visible_at
            self._due.add(visible_at, entry)
        self._order.add(entry)
        return entry

    def restore(self, message: Message, position: int, place: ReceiveState, now: float) -> None:
        """Restore a message to its state before the process ended."""
        if message.group_id is not None:
            self._be_fair(now)
        entry = QueueEntry(message, position)
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

    def _be_fair(self, now: float) -> None:
        """Begin to tell tenants apart, if a message with a group is the first one."""
        if not isinstance(self._order, StandardOrder):
            return
        visible: list[QueueEntry] = []

        def keep(entry: QueueEntry) -> bool:
            visible.append(entry)
            return True

        self._order.take(len(self), keep)
        in_flight = (entry for entry in self._entries.values() if entry.state is IN_FLIGHT)
        self._order = FairOrder(visible, in_flight, now)

    def noisy_groups(self) -> dict[str, int]:
        """The number of visible messages of each noisy message group of a fair queue."""
        order = self._order
        noisy = order.noisy() if isinstance(order, FairOrder) else ()
        return {tenant.name or "": len(tenant) for tenant in noisy}

    def duplicate_of(
        self, group_id: str | None, deduplication_id: str, now: float
    ) -> Message | None:
        """The message that was sent with the same deduplication id in the last five minutes."""
        return self.deduplication.sends.get(self._key(group_id, deduplication_id), now)

    def remember(self, message: Message, now: float) -> None:
        """Drop duplicates of this message for five minutes."""
        key = self._key(message.group_id, message.deduplication_id or "")
        self.deduplication.sends.set(key, message, now)

    def _key(self, group_id: str | None, deduplication_id: str) -> str:
        by_group = self.settings.deduplicate_by_group
        return f"{group_id}\0{deduplication_id}" if by_group else deduplication_id

    def refresh(self, now: float) -> tuple[list[QueueEntry], list[QueueEntry]]:
        """Bring the queue up to ``now``.

        Returns the messages whose visibility timeout has ended, and those that have expired.
        """
        self._order.now = now
        returned: list[QueueEntry] = []
        while (entry := self._due.pop_due(now)) is not None:
            if entry.state is IN_FLIGHT:
                returned.append(entry)
            self._become_visible(entry)
        expired: list[QueueEntry] = []
        # A message in flight goes too: retention counts from when the message was sent.
        while (retention := self._ages.pop_due(now - self.settings.retention_s)) is not None:
            expired.append(retention.entry)
            self.remove(retention.entry, on_ages=False)
        return returned, expired

    def _become_visible(self, entry: QueueEntry) -> None:
        was = entry.state
        self._move(entry, VISIBLE)
        if was is DELAYED:
            self._order.became_visible(entry)
        else:
            self._order.give_back(entry)

    def _move(self, entry: QueueEntry, state: str) -> None:
        self._counts[entry.state] -= 1
        entry.epoch += 1
        entry.state = state
        if state is not GONE:
            self._counts[state] += 1

    def ready(self) -> bool:
        """True if a receive would return a message now."""
        return self._order.first() is not None

    def peek(self) -> QueueEntry | None:
        """The message that a receive would return first."""
        return self._order.first()

    def next_due(self) -> float | None:
        """The time at which the next delayed or in-flight message becomes visible."""
        return self._due.next_at()

    def receive(
        self, limit: int, visibility_s: float, now: float, *,
        exhausted: Callable[[QueueEntry], bool], nonce: Callable[[], str],
    ) -> list[Received]:  # fmt: skip
        """Hand out up to ``limit`` messages; skips those that ``exhausted`` has moved elsewhere."""
        handed: list[Received] = []

        def accept(entry: QueueEntry) -> bool:
            if exhausted(entry):
                return False
            handed.append(self._hand_out(entry, visibility_s, now, nonce()))
            return True

        self._order.take(limit, accept)
        # With a timeout of 0 messages are visible again at once, but only to the next receive.
        for entry in [self._entries[r.message.id] for r in handed] if visibility_s <= 0 else ():
            self._become_visible(entry)
        return handed

    def _hand_out(self, entry: QueueEntry, visibility_s: float, now: float, nonce: str) -> Received:
        self._move(entry, IN_FLIGHT)
        entry.receive_count += 1
        if entry.receive_count == 1:
            entry.first_received_at = now
        entry.received_at = now
        entry.due_at = now + visibility_s
        if visibility_s > 0:
            self._due.add(entry.due_at, entry)
        handle = f"{self.name} {entry.message.id} {nonce}"
        entry.receipt = base64.b64encode(handle.encode()).decode()
        return Received(entry.message, entry.receipt, entry.receive_count, entry.first_received_at)

    def find(self, handle: str) -> QueueEntry | None:
        """The message of a receipt handle, ``None`` if it is gone.

        Raises ``ReceiptHandleIsInvalidError`` if the handle does not belong to this queue.
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
        """The time at which the oldest message on the queue was sent."""
        return next((entry.message.sent_at for entry in self._entries.values()), None)

    def entry(self, message_id: str) -> QueueEntry | None:
        """The message of that id, in any state."""
        return self._entries.get(message_id)

    def change_visibility(self, entry: QueueEntry, seconds: float, now: float) -> None:
        """Restart the visibility timeout of a message at ``now``, though it may be over."""
        if seconds <= 0:
            if entry.state is IN_FLIGHT:
                self._become_visible(entry)
                self._due.call_off()
            return
        if entry.state is IN_FLIGHT:
            entry.epoch += 1
            self._due.call_off()
        else:
            self._move(entry, IN_FLIGHT)
            self._order.hidden(entry)
        entry.due_at = now + seconds
        self._due.add(entry.due_at, entry)

    def remove(self, entry: QueueEntry, *, on_ages: bool = True) -> None:
        """Remove a message in any state; ``on_ages`` is False if it has left that timetable."""
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

    def discard_taken(self, entry: QueueEntry) -> None:
        """Remove a message that ``receive`` offered as exhausted; its order has dropped it."""
        self._move(entry, GONE)
        entry.retained.epoch += 1
        self._ages.call_off()
        del self._entries[entry.message.id]

    def clear(self) -> int:
        """Remove all messages, including those in flight, and forget what was sent before.

        Returns the number of messages.
        """
        gone = len(self._entries)
        for entry in self._entries.values():
            entry.state = GONE
            entry.epoch += 1
        self._entries.clear()
        self._due.clear()
        self._ages.clear()
        self.deduplication = Deduplication()
        self._order = FifoOrder() if self.fifo else StandardOrder()
        self._counts = dict.fromkeys(self._counts, 0)
        return gone
