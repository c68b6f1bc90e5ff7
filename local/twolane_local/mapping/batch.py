"""Gathering a batch: batch size, batching window, payload limit and filters.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching:
a batch goes when its window is over, when it is full, or when its payload reaches 6 MB.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.mapping.event import record_of
from twolane_local.queues.errors import OverLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.model import QueueMappingSpec
    from twolane_local.queues.core import QueueService
    from twolane_local.queues.message import Received

PAYLOAD_LIMIT = 6 * 1024 * 1024
_ENVELOPE = len('{"Records":[]}')
#: Lambda receives at most ten messages at a time, as SQS gives no more.
RECEIVE = 10
#: How long to wait where there are messages but none can be received.
FRUITLESS_S = 0.05


@dataclass(frozen=True, slots=True)
class Item:
    """A received message and its record in the event, as compact JSON in UTF-8."""

    received: Received
    record: bytes
    expires_at: float  # when its visibility timeout ends

    @property
    def id(self) -> str:
        return self.received.message.id

    @property
    def trace_header(self) -> str:
        return self.received.message.trace_header or ""


class _Gathering:
    """A batch on its way to its limits."""

    def __init__(self, limit: int) -> None:
        self.items: list[Item] = []
        self.full = False
        self._limit = limit
        self._size = _ENVELOPE

    @property
    def room(self) -> int:
        return self._limit - len(self.items)

    def takes(self, item: Item) -> bool:
        """Whether one more fits; the first always does."""
        fits = not self.items or self._size + len(item.record) + 1 <= PAYLOAD_LIMIT
        self.full = self.full or not fits
        return fits and self.room > 0

    def add(self, item: Item) -> None:
        self.items.append(item)
        self._size += len(item.record) + 1
        self.full = not self.room


class Batcher:
    """Gathers batches for one mapping from one queue."""

    def __init__(
        self,
        spec: QueueMappingSpec,
        queues: QueueService,
        wanted: Callable[[Mapping[str, Any]], bool] | None,
        discard: Callable[[Received], None],
    ) -> None:
        self._spec, self._queues = spec, queues
        self._wanted, self._discard = wanted, discard
        self._queue = spec.queue_arn.rpartition(":")[2]
        self._left_over: deque[Item] = deque()
        #: Set, with a wake of the queue, to have ``gather`` give what it has and take no more.
        self.closing = False

    async def gather(self) -> list[Item]:
        """The next batch. Waits without end for its first message, then up to the window."""
        batch = _Gathering(self._spec.batch_size)
        deadline: float | None = None
        clock = self._queues.clock
        while True:
            in_vain = not self._take_in(batch)
            if self.closing or batch.full:
                return batch.items
            if batch.items and deadline is None:
                deadline = clock.time() + self._spec.batching_window_s
            ready = await self._queues.pause(self._queue, deadline)
            if ready and not in_vain:
                # A backlog that no filter wants must not keep the loop from everyone else.
                await clock.sleep(0)
            elif deadline is not None and clock.time() >= deadline:
                return batch.items
            elif ready:
                # The queue has in flight what it may have, and must not be asked in a loop.
                await clock.sleep(FRUITLESS_S)

    def _take_in(self, batch: _Gathering) -> bool:
        """Receive where nothing is left over, and add what fits; tells whether there was any."""
        now = self._queues.clock.time()
        while self._left_over and self._left_over[0].expires_at <= now:
            self._left_over.popleft()  # it was left over too long, and is on the queue again
        found = len(self._left_over)
        if not found and not self.closing:
            try:
                found = self._receive(batch.room)
            except OverLimitError:
                if not batch.items:
                    raise
        while self._left_over and batch.takes(self._left_over[0]):
            batch.add(self._left_over.popleft())
        return found > 0

    def _receive(self, room: int) -> int:
        """Take up to ten messages, and tell how many; what no filter wants is deleted.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html
        """
        # Lambda refuses a queue whose visibility timeout is below its function's timeout, and so
        # never meets one of 0, which would hand out the same message without end.
        visibility = max(1, self._queues.get(self._queue).settings.visibility_s)
        now = self._queues.clock.time()
        found = self._queues.receive(self._queue, min(room, RECEIVE), visibility_s=visibility)
        for received in found:
            record = record_of(received, self._spec.queue_arn)
            if self._wanted is not None and not self._wanted(record):
                self._discard(received)
                continue
            text = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
            self._left_over.append(Item(received, text, now + visibility))
        return len(found)


def payload_of(batch: list[Item]) -> bytes:
    """The event of a batch."""
    return b'{"Records":[' + b",".join(item.record for item in batch) + b"]}"
