"""A batch of messages: how it is gathered, its event, and the response that reports failed items.

A batch is sent when its window is over, when it is full, or when its payload reaches 6 MB:
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching
The event: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event
The response: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
"""

from __future__ import annotations

import base64
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.errors import OverLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.model import QueueMappingSpec
    from twolane_local.model.message import AttributeValue, Received


def record_of(received: Received, queue_arn: str) -> dict[str, Any]:
    """A message as a record of the event; body and attribute values are exactly as sent."""
    message = received.message
    record: dict[str, Any] = {
        "messageId": message.id,
        "receiptHandle": received.receipt_handle,
        "body": message.body,
        "attributes": received.system_attributes(),
        "messageAttributes": {
            name: _attribute(value) for name, value in message.attributes.items()
        },
        "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if message.md5_of_attributes is not None:
        record["md5OfMessageAttributes"] = message.md5_of_attributes
    return record


def _attribute(value: AttributeValue) -> dict[str, Any]:
    shown: dict[str, Any] = (
        {"binaryValue": base64.b64encode(value.binary or b"").decode()}
        if value.string is None
        else {"stringValue": value.string}
    )
    return {**shown, "stringListValues": [], "binaryListValues": [], "dataType": value.data_type}


PAYLOAD_LIMIT = 6 * 1024 * 1024
_ENVELOPE = len('{"Records":[]}')
#: SQS returns at most ten messages for one receive.
RECEIVE = 10
#: The wait before the next receive if there are messages but none can be received.
FRUITLESS_S = 0.05


@dataclass(frozen=True, slots=True)
class BatchItem:
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


class _Batch:
    """A batch that is being gathered, with its limits."""

    def __init__(self, limit: int) -> None:
        self.items: list[BatchItem] = []
        self.full = False
        self._limit = limit
        self._size = _ENVELOPE

    @property
    def room(self) -> int:
        return self._limit - len(self.items)

    def has_room_for(self, item: BatchItem) -> bool:
        """True if the item fits; the first one always does."""
        fits = not self.items or self._size + len(item.record) + 1 <= PAYLOAD_LIMIT
        self.full = self.full or not fits
        return fits and self.room > 0

    def add(self, item: BatchItem) -> None:
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
        self._left_over: deque[BatchItem] = deque()
        #: When set, and the queue woken, ``gather`` returns what it has and receives no more.
        self.closing = False

    async def gather(self) -> list[BatchItem]:
        """The next batch. Waits for its first message without a limit, then up to the window."""
        batch = _Batch(self._spec.batch_size)
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
                # A backlog that matches no filter must not block the event loop.
                await clock.sleep(0)
            elif deadline is not None and clock.time() >= deadline:
                return batch.items
            elif ready:
                # The queue is at its limit of messages in flight; do not poll it in a tight loop.
                await clock.sleep(FRUITLESS_S)

    def _take_in(self, batch: _Batch) -> bool:
        """Add what fits, after a receive if nothing is left over; returns False if none came."""
        now = self._queues.clock.time()
        while self._left_over and self._left_over[0].expires_at <= now:
            self._left_over.popleft()  # its visibility timeout is over: it is on the queue again
        found = len(self._left_over)
        if not found and not self.closing:
            try:
                found = self._receive(batch.room)
            except OverLimitError:
                if not batch.items:
                    raise
        while self._left_over and batch.has_room_for(self._left_over[0]):
            batch.add(self._left_over.popleft())
        return found > 0

    def _receive(self, room: int) -> int:
        """Receive up to ten messages and return their number; deletes those that match no filter.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html
        """
        # Lambda refuses a queue whose visibility timeout is below the function's timeout, so it
        # never meets one of 0, which would return the same message again and again.
        visibility = max(1, self._queues.get(self._queue).settings.visibility_s)
        now = self._queues.clock.time()
        found = self._queues.receive(self._queue, min(room, RECEIVE), visibility_s=visibility)
        for received in found:
            record = record_of(received, self._spec.queue_arn)
            if self._wanted is not None and not self._wanted(record):
                self._discard(received)
                continue
            text = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
            self._left_over.append(BatchItem(received, text, now + visibility))
        return len(found)


def payload_of(batch: list[BatchItem]) -> bytes:
    return b'{"Records":[' + b",".join(item.record for item in batch) + b"]}"


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The ids of the messages to keep on the queue; ``reason`` says why the whole batch failed."""

    failed: frozenset[str]
    reason: str | None = None


def batch_item_failures(payload: bytes, message_ids: Collection[str]) -> BatchOutcome:
    """Read a response of ``ReportBatchItemFailures``.

    A complete success is an empty or null response, or an empty or null ``batchItemFailures``. A
    complete failure is a response that is not a JSON object, or an ``itemIdentifier`` that is
    empty, null, has a wrong key, or belongs to no message of the batch.
    """
    try:
        return BatchOutcome(frozenset(_identifiers(payload, message_ids)))
    except _MalformedError as malformed:
        return BatchOutcome(frozenset(message_ids), str(malformed))


class _MalformedError(Exception):
    """The response is malformed, so its whole batch failed."""


def _identifiers(payload: bytes, message_ids: Collection[str]) -> list[str]:
    try:
        response = json.loads(payload) if payload.strip() else None
    except (ValueError, RecursionError):
        raise _MalformedError("the response is not JSON") from None
    if response is None:
        return []
    if not isinstance(response, dict):
        # AWS does not document how it treats other JSON.
        raise _MalformedError("the response is not a JSON object")
    failures = response.get("batchItemFailures")
    if failures is None:
        return []
    if not isinstance(failures, list):
        raise _MalformedError("batchItemFailures is not a list")
    return [_identifier(failure, message_ids) for failure in failures]


def _identifier(failure: object, message_ids: Collection[str]) -> str:
    if not isinstance(failure, dict) or "itemIdentifier" not in failure:
        raise _MalformedError("a batch item failure has no itemIdentifier")
    identifier = failure["itemIdentifier"]
    if not isinstance(identifier, str) or not identifier:
        raise _MalformedError("an itemIdentifier is empty or not a string")
    if identifier not in message_ids:
        raise _MalformedError(f"itemIdentifier {identifier} belongs to no message of the batch")
    return identifier
