"""The order of visible messages: as sent (standard), or strict within each group (FIFO)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from twolane_local.model.states import GONE, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.model.message import Message


class QueueEntry:
    """A message on a queue, with the state that changes."""

    __slots__ = (
        "due_at", "epoch", "first_received_at", "message", "position", "receipt", "receive_count",
        "received_at", "retained", "state",
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
        self.retained = Retention(self)


class Retention:
    """An item on the timetable of retention periods, valid until the message is gone."""

    __slots__ = ("entry", "epoch")

    def __init__(self, entry: QueueEntry) -> None:
        self.entry = entry
        self.epoch = 0


class Order(Protocol):
    """The visible messages of a queue in the order in which they are handed out."""

    def add(self, entry: QueueEntry) -> None:
        """Add an entry that is delayed or visible."""

    def held(self, entry: QueueEntry) -> None:
        """Add an entry that is in flight."""

    def became_visible(self, entry: QueueEntry) -> None:
        """A delayed entry is due."""

    def give_back(self, entry: QueueEntry) -> None:
        """An entry in flight is visible again."""

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
    """Best-effort ordering: as sent; returned messages go to the end."""

    def __init__(self) -> None:
        self._visible: deque[tuple[int, QueueEntry]] = deque()

    def add(self, entry: QueueEntry) -> None:
        if entry.state is VISIBLE:
            self._visible.append((entry.epoch, entry))

    became_visible = give_back = add

    def released(self, entry: QueueEntry) -> None:
        """Does nothing: messages of a standard queue do not wait for each other."""

    withdrawn = held = released

    def take(self, limit: int, accept: Callable[[QueueEntry], bool]) -> None:
        taken = 0
        while taken < limit and self.first() is not None:
            taken += accept(self._visible.popleft()[1])

    def first(self) -> QueueEntry | None:
        visible = self._visible
        # A message can be deleted by its last receipt handle while it is visible again.
        while visible and visible[0][0] != visible[0][1].epoch:
            visible.popleft()
        return visible[0][1] if visible else None


@dataclass(slots=True)
class _Group:
    waiting: list[tuple[int, QueueEntry]] = field(default_factory=list)  # a heap by position
    in_flight: int = 0


class FifoOrder:
    """Strict order within a message group; a group with a message in flight is locked.

    One receive takes several messages of a group if it can:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._heads: list[tuple[int, str]] = []  # a heap: groups by their first message

    def add(self, entry: QueueEntry) -> None:
        name = entry.message.group_id or ""
        group = self._groups.setdefault(name, _Group())
        heappush(group.waiting, (entry.position, entry))
        if group.waiting[0][1] is entry:
            self._offer(name, group)

    def held(self, entry: QueueEntry) -> None:
        self._groups.setdefault(entry.message.group_id or "", _Group()).in_flight += 1

    def became_visible(self, entry: QueueEntry) -> None:
        name = entry.message.group_id or ""
        group = self._groups[name]
        if self._head(group) is entry:
            self._offer(name, group)

    def give_back(self, entry: QueueEntry) -> None:
        group = self._groups[entry.message.group_id or ""]
        heappush(group.waiting, (entry.position, entry))
        self.released(entry)

    def released(self, entry: QueueEntry) -> None:
        name = entry.message.group_id or ""
        group = self._groups[name]
        group.in_flight -= 1
        self._offer(name, group)

    def withdrawn(self, entry: QueueEntry) -> None:
        name = entry.message.group_id or ""
        self._offer(name, self._groups[name])

    def take(self, limit: int, accept: Callable[[QueueEntry], bool]) -> None:
        taken = 0
        while taken < limit and self.first() is not None:
            name = heappop(self._heads)[1]
            group = self._groups[name]
            while taken < limit and self._head(group) is not None:
                if accept(heappop(group.waiting)[1]):
                    group.in_flight += 1
                    taken += 1
            self._offer(name, group)

    def first(self) -> QueueEntry | None:
        heads = self._heads
        while heads:
            position, name = heads[0]
            group = self._groups.get(name)
            head = self._head(group) if group is not None and not group.in_flight else None
            if head is not None and head.position == position:
                return head
            heappop(heads)  # the group was locked, emptied, or got an earlier head
        return None

    def _offer(self, name: str, group: _Group) -> None:
        head = self._head(group)
        if group.in_flight:
            return
        if head is not None:
            heappush(self._heads, (head.position, name))
        elif not group.waiting:
            self._groups.pop(name, None)

    @staticmethod
    def _head(group: _Group) -> QueueEntry | None:
        """The group's first message if it is visible; a delayed one blocks the rest."""
        waiting = group.waiting
        while waiting and waiting[0][1].state is GONE:
            heappop(waiting)
        return waiting[0][1] if waiting and waiting[0][1].state is VISIBLE else None
