"""What is due when: a heap whose entries may be called off, at O(log n) amortised each."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar


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
