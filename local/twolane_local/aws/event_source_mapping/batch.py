"""Gathering a batch: batch size, batching window, payload limit and filters.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching:
a batch goes when its window is over, when it is full, or when its payload reaches 6 MB.
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
    """One message as a record; its body and its attributes' values exactly as they were sent."""
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """The messages to keep on the queue, by id, and why a whole batch failed if it did."""

    failed: frozenset[str]
    reason: str | None = None


def batch_item_failures(payload: bytes, message_ids: Collection[str]) -> Outcome:
    """Read a response of ``ReportBatchItemFailures``.

    A complete success is: an empty or null response, an empty or null ``batchItemFailures``. A
    complete failure is: a response that is no JSON object, an ``itemIdentifier`` that is empty,
    null, has a wrong key, or is of no message of the batch.
    """

    try:
        return Outcome(frozenset(_identifiers(payload, message_ids)))
    except _MalformedError as malformed:
        return Outcome(frozenset(message_ids), str(malformed))


class _MalformedError(Exception):
    """Why a response fails its whole batch."""


def _identifiers(payload: bytes, message_ids: Collection[str]) -> list[str]:
    try:
        response = json.loads(payload) if payload.strip() else None
    except (ValueError, RecursionError):
        raise _MalformedError("the response is not JSON") from None
    if response is None:
        return []
    if not isinstance(response, dict):
        # JSON, but nothing that could hold the key: AWS does not say what that counts as.
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
        raise _MalformedError(f"itemIdentifier {identifier} is of no message of the batch")
    return identifier
