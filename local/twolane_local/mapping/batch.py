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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.model import QueueMappingSpec
    from twolane_local.queues.core import QueueService
    from twolane_local.queues.message import Received

PAYLOAD_LIMIT = 6 * 1024 * 1024
_ENVELOPE = len('{"Records":[]}')
#: Lambda receives at most ten messages at a time, as SQS gives no more.
RECEIVE = 10


@dataclass(frozen=True, slots=True)
class Item:
    """A received message and its record in the event, as compact JSON in UTF-8."""

    received: Received
    record: bytes
    expires_at: float  # when its visibility timeout ends

    @property
    def id(self) -> str:
        return self.received.message.id


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
        batch: list[Item] = []
        size = _ENVELOPE
        deadline: float | None = None
        clock = self._queues.clock
        while True:
            if not self._left_over and not self.closing:
                self._receive(self._spec.batch_size - len(batch))
            while self._left_over and len(batch) < self._spec.batch_size:
                needs = len(self._left_over[0].record) + 1
                if batch and size + needs > PAYLOAD_LIMIT:
                    return batch
                batch.append(self._left_over.popleft())
                size += needs
            if self.closing or len(batch) >= self._spec.batch_size:
                return batch
            if batch and deadline is None:
                deadline = clock.time() + self._spec.batching_window_s
            ready = await self._queues.pause(self._queue, deadline)
            if ready:
                # A backlog that no filter wants must not keep the loop from everyone else.
                await clock.sleep(0)
            elif deadline is not None and clock.time() >= deadline:
                return batch

    def _receive(self, room: int) -> None:
        """Take up to ten messages; what no filter wants is deleted.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html
        """
        # Lambda refuses a queue whose visibility timeout is below its function's timeout, and so
        # never meets one of 0, which would hand out the same message without end.
        visibility = max(1, self._queues.get(self._queue).settings.visibility_s)
        now = self._queues.clock.time()
        for received in self._queues.receive(
            self._queue, min(room, RECEIVE), visibility_s=visibility
        ):
            record = record_of(received, self._spec.queue_arn)
            if self._wanted is not None and not self._wanted(record):
                self._discard(received)
                continue
            text = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
            self._left_over.append(Item(received, text, now + visibility))


def payload_of(batch: list[Item]) -> bytes:
    """The event of a batch."""
    return b'{"Records":[' + b",".join(item.record for item in batch) + b"]}"
