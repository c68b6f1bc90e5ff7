"""The SQS event source mapping: polls a queue, invokes a function, deletes what succeeded.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html

- A batch is sent when its window is over, when it is full, or when its payload reaches 6 MB:
  https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching
- The messages of a successful batch are deleted; with ``ReportBatchItemFailures``, all but those
  that the function reports:
  https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
- Failed messages stay invisible until the queue's visibility timeout is over, then they are
  received again; the queue moves them to its dead-letter queue after ``maxReceiveCount``.
- Messages of a recursive loop count as failed, without an invocation, on every receive.
- A throttled invocation is tried again until the visibility timeout of its messages is over; they
  are then received again, so throttles use up receives:
  https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html

Its parameters' limits, and how it scales:
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.events.patterns import compile_filters
from twolane_local.aws.invocation import (
    RecursiveInvocationError,
    ThrottledError,
    UnknownFunctionError,
)
from twolane_local.aws.sqs.errors import OverLimitError, QueueDoesNotExistError, SqsError
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from twolane_local.aws.invocation import Invocation, Invoker
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
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
        self._items: dict[str, BatchItem] = {}
        self.full = False
        self._limit = limit
        self._size = _ENVELOPE

    @property
    def items(self) -> list[BatchItem]:
        return list(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    @property
    def room(self) -> int:
        return self._limit - len(self._items)

    def has_room_for(self, item: BatchItem) -> bool:
        """True if the item fits; the first one always does."""
        if item.id in self._items:
            return True
        fits = not self._items or self._size + len(item.record) + 1 <= PAYLOAD_LIMIT
        self.full = self.full or not fits
        return fits and self.room > 0

    def add(self, item: BatchItem) -> None:
        """Add a message, or its new receipt.

        If the batching window is longer than the visibility timeout, the queue returns a message
        that already waits in the batch. No page describes a batch that holds a message twice.
        """
        former = self._items.get(item.id)
        self._size += len(item.record) + 1 - (len(former.record) + 1 if former else 0)
        self._items[item.id] = item
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
            if len(batch) and deadline is None:
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
                if not len(batch):
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


#: Concurrent batches at first and at most, and how many more are allowed each minute.
FIRST, MOST = 5, 1_000
PER_MINUTE = 300.0
#: In provisioned mode a poller runs up to ten invocations at once; 1,000 more are added a minute.
POLLER_CONCURRENCY, PROVISIONED_PER_MINUTE = 10, 1_000.0
DEFAULT_POLLERS = (2, 200)
#: The number returns to ``FIRST`` after this time without a backlog; AWS does not document it.
QUIET_S = 60.0


class Scaling:
    """The number of batches allowed at once. All times are arguments, in seconds."""

    def __init__(self, spec: QueueMappingSpec, now: float) -> None:
        self.per_minute = PER_MINUTE
        low, high = FIRST, MOST
        if spec.minimum_pollers is not None or spec.maximum_pollers is not None:
            pollers = (
                spec.minimum_pollers or DEFAULT_POLLERS[0],
                spec.maximum_pollers or DEFAULT_POLLERS[1],
            )
            low, high = (number * POLLER_CONCURRENCY for number in pollers)
            self.per_minute = PROVISIONED_PER_MINUTE
        if spec.maximum_concurrency is not None:
            high = spec.maximum_concurrency
        self.first, self.most = min(low, high), high
        self._allowed = float(self.first)
        self._busy_since: float | None = None
        self._busy_at = now

    @property
    def allowed(self) -> int:
        return max(1, int(self._allowed))

    def backlog(self, now: float) -> None:
        """Every batch is taken, and messages are waiting."""
        if self._busy_since is None:
            self._busy_since = now
        grown = (now - self._busy_since) * self.per_minute / 60
        if grown > 0:
            self._allowed = min(float(self.most), self._allowed + grown)
            self._busy_since = now
        self._busy_at = now

    def idle(self, now: float) -> None:
        """No message is waiting."""
        self._busy_since = None
        if now - self._busy_at >= QUIET_S:
            self._allowed = min(self._allowed, float(self.first))

    def failed(self) -> None:
        self._allowed = max(1.0, self._allowed / 2)

    def succeeded(self) -> None:
        if self._allowed < self.first:
            self._allowed += 1


BATCH_SIZE, FIFO_BATCH_SIZE = 10_000, 10
#: A larger batch size needs a batching window.
WITHOUT_WINDOW = 10
WINDOW_S = 300
CONCURRENCY = (2, 1_000)
MINIMUM_POLLERS, MAXIMUM_POLLERS = (2, 200), (2, 10_000)


class MappingError(LocalError):
    """AWS would not create this event source mapping; correct it in the template.

    ``reason`` is Lambda's own text where it is known.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def check(spec: QueueMappingSpec) -> None:
    """Raise ``MappingError`` for a mapping that AWS would refuse."""
    fifo = spec.queue_arn.endswith(".fifo")
    if fifo and spec.batching_window_s:
        reason = "Batching window is not supported for FIFO queues"
        raise _refused(spec, reason, "MaximumBatchingWindowInSeconds")
    most = FIFO_BATCH_SIZE if fifo else BATCH_SIZE
    if not 1 <= spec.batch_size <= most:
        reason = f"Maximum batch size must be between 1 and {most} inclusive"
        raise _refused(spec, reason, f"BatchSize is {spec.batch_size}")
    if not 0 <= spec.batching_window_s <= WINDOW_S:
        raise _refused(spec, f"MaximumBatchingWindowInSeconds must be from 0 to {WINDOW_S}")
    if spec.batch_size > WITHOUT_WINDOW and spec.batching_window_s < 1:
        reason = (
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is "
            f"greater than {WITHOUT_WINDOW}"
        )
        raise _refused(spec, reason, "MaximumBatchingWindowInSeconds")
    _check_scaling(spec)


def _check_scaling(spec: QueueMappingSpec) -> None:
    numbers = {
        "MaximumConcurrency": (spec.maximum_concurrency, CONCURRENCY),
        "MinimumPollers": (spec.minimum_pollers, MINIMUM_POLLERS),
        "MaximumPollers": (spec.maximum_pollers, MAXIMUM_POLLERS),
    }
    for name, (number, (low, high)) in numbers.items():
        if number is not None and not low <= number <= high:
            raise _refused(spec, f"{name} must be from {low} to {high}")
    provisioned = spec.minimum_pollers is not None or spec.maximum_pollers is not None
    if provisioned and spec.maximum_concurrency is not None:
        raise _refused(spec, "MaximumConcurrency and provisioned mode exclude each other")
    low = spec.minimum_pollers or DEFAULT_POLLERS[0]
    if provisioned and low > (spec.maximum_pollers or DEFAULT_POLLERS[1]):
        raise _refused(spec, "MinimumPollers must not be above MaximumPollers")


def _refused(spec: QueueMappingSpec, reason: str, where: str = "") -> MappingError:
    more = f" ({where})" if where else ""
    message = f"The mapping of {spec.queue_arn} to {spec.function}: {reason}{more}"
    return MappingError(message, reason)


#: Waits between tries of a throttled batch, in seconds; AWS documents only that they grow.
THROTTLE_FIRST_S, THROTTLE_MOST_S = 0.2, 10.0


#: The states of a mapping.
#: https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
CREATING, ENABLING, ENABLED, DISABLING, DISABLED, UPDATING, DELETING = (
    "Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting",
)  # fmt: skip


class EventSourceMapping:
    """Runs one mapping until cancelled. ``enabled`` may be changed at any time."""

    def __init__(
        self,
        spec: QueueMappingSpec,
        queues: QueueService,
        invoker: Invoker,
        clock: Clock,
        journal: Journal,
    ) -> None:
        """Raises ``MappingError`` or ``PatternError`` if AWS would refuse to create it."""
        check(spec)
        self.spec = spec
        self._queues, self._invoker = queues, invoker
        self._clock, self._journal = clock, journal
        self._queue = spec.queue_arn.rpartition(":")[2]
        self.target = f"{spec.function}:{spec.qualifier}" if spec.qualifier else spec.function
        wanted = compile_filters(spec.filter_patterns)
        self._batcher = Batcher(spec, queues, wanted, self._discard)
        self._scaling = Scaling(spec, clock.time())
        self._under_way = 0
        self._polling = False
        self._changed = asyncio.Event()
        self._enabled = asyncio.Event()
        self._on, self._held = spec.enabled, False
        self._settled = CREATING
        self._ending = ""
        #: When its state last changed, in epoch seconds.
        self.changed_at = clock.time()
        self._switch()

    @property
    def enabled(self) -> bool:
        return self._on

    @enabled.setter
    def enabled(self, on: bool) -> None:
        """A disabled mapping receives no more messages, but sends the batch that it has begun."""
        self._on = on
        self.changed_at = self._clock.time()
        self._switch()

    def hold(self, held: bool) -> None:
        """Receive no messages while it is held; it is enabled or not as before."""
        self._held = held
        self._switch()

    def _switch(self) -> None:
        receives = self._on and not self._held
        self._batcher.closing = not receives
        if receives:
            self._enabled.set()
        else:
            self._enabled.clear()
            self._queues.wake(self._queue)

    @property
    def state(self) -> str:
        """Its state as the Lambda API names it."""
        if self._ending:
            return self._ending
        if not self.enabled:
            return DISABLING if self._under_way or self._polling else DISABLED
        if self._held or self._settled == ENABLED:
            return ENABLED
        return CREATING if self._settled == CREATING else ENABLING

    @property
    def under_way(self) -> int:
        """The number of batches that the function processes now."""
        return self._under_way

    @property
    def allowed(self) -> int:
        """The number of batches that the function may process at once, as scaled now."""
        return self._scaling.allowed

    async def run(self) -> None:
        """Poll, invoke, delete, until cancelled."""
        async with asyncio.TaskGroup() as batches:
            while True:
                self._pause()
                if not self._enabled.is_set():
                    self._settle(DISABLED)
                await self._enabled.wait()
                self._settle(ENABLED)
                self._polling = True
                try:
                    await self._wait_for_room()
                    batch = await self._batcher.gather()
                except QueueDoesNotExistError:
                    self._log("ERROR", f"queue {self._queue} does not exist; waiting for it")
                    self._pause()
                    await self._queues.exists(self._queue)
                    continue
                except SqsError as error:
                    self._log("ERROR", f"cannot receive, and tries again in 1 s: {error.message}")
                    await self._clock.sleep(1.0)
                    continue
                if batch:
                    self._under_way += 1
                    batches.create_task(self._process(batch))

    def _pause(self) -> None:
        self._polling = False
        self._changed.set()

    def _settle(self, state: str) -> None:
        if self._settled != state:
            self._settled, self.changed_at = state, self._clock.time()

    def adopt(self, spec: QueueMappingSpec) -> None:
        """Show the specification, and be enabled as it says; all else of it is the same."""
        self.spec = spec
        if self.enabled is not spec.enabled:
            self.enabled = spec.enabled

    def end(self, state: str) -> None:
        """Receive no more messages, since it will be replaced or deleted, and show this state."""
        if self._ending != state:
            self._ending = state
            self.enabled = False

    async def drained(self) -> None:
        """Return once no batch of a mapping that ends is under way."""
        while self._under_way or self._polling:
            self._changed.clear()
            await self._changed.wait()

    async def _wait_for_room(self) -> None:
        scaling = self._scaling
        ready = self._queues.refreshed(self._queue).ready()
        if not ready:
            scaling.idle(self._clock.time())
        while self._under_way >= scaling.allowed:
            ready = self._queues.refreshed(self._queue).ready()
            if ready:
                scaling.backlog(self._clock.time())
            self._changed.clear()
            await self._clock.wait(self._changed, 60 / scaling.per_minute if ready else 1.0)

    async def _process(self, batch: list[BatchItem]) -> None:
        try:
            invocation, sent = await self._invoke(batch)
            if invocation is not None:
                self._delete_processed(invocation, sent)
        finally:
            self._under_way -= 1
            self._changed.set()

    async def _invoke(self, batch: list[BatchItem]) -> tuple[Invocation | None, list[BatchItem]]:
        """Invoke the function; repeat while it throttles and messages of the batch are invisible.

        Returns the invocation, ``None`` if there was none, and the messages that it got.
        """
        pause = THROTTLE_FIRST_S
        while batch:
            request_id = str(uuid.uuid4())
            self._journal.record(
                "batch.invoked", function=self.spec.function, queue=self._queue,
                request_id=request_id, messageIds=[item.id for item in batch],
            )  # fmt: skip
            try:
                payload = payload_of(batch)
                return await self._invoker.invoke(
                    self.target, payload, request_id=request_id,
                    trace_headers=[item.trace_header for item in batch],
                ), batch  # fmt: skip
            except RecursiveInvocationError as error:
                stopped = [item for item in batch if item.trace_header in error.headers]
                batch = [item for item in batch if item.trace_header not in error.headers]
                self._log_recursive_loop(stopped, request_id)
                if not batch:
                    return None, batch
            except ThrottledError:
                self._scaling.failed()
                await self._clock.sleep(pause)
                pause = min(pause * 2, THROTTLE_MOST_S)
                batch = [item for item in batch if item.expires_at > self._clock.time()]
            except UnknownFunctionError:
                self._scaling.failed()
                self._log(
                    "ERROR", f"{self.target} does not exist; {len(batch)} messages are received "
                    "again after the visibility timeout", requestId=request_id,
                )  # fmt: skip
                return None, batch
            except Exception as error:  # noqa: BLE001 - one broken batch must not end the mapping
                self._scaling.failed()
                self._log("ERROR", f"invocation failed: {error!r}", requestId=request_id)
                return None, batch
        self._log("WARNING", "throttled until the visibility timeout was over")
        return None, batch

    def _log_recursive_loop(self, stopped: list[BatchItem], request_id: str) -> None:
        """Messages of a recursive loop are received and refused again until ``maxReceiveCount``.

        https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
        """
        self._scaling.failed()
        settings = self._queues.get(self._queue).settings
        left = max(item.expires_at for item in stopped) - self._clock.time()
        dead = (settings.dead_letter_arn or "").rpartition(":")[2]
        end = (
            f"until they go to {dead} after {settings.max_receive_count} receives"
            if dead
            else "until they expire, as the queue has no dead-letter queue"
        )
        self._log(
            "ERROR", f"{len(stopped)} messages are part of a recursive loop: {self.spec.function} "
            f"was not invoked; they are received and refused again every "
            f"{max(0.0, left):.0f} s, {end}", requestId=request_id,
        )  # fmt: skip

    def _delete_processed(self, invocation: Invocation, batch: list[BatchItem]) -> None:
        outcome = self._outcome(invocation, batch)
        # A partial failure is not a failed invocation: Lambda does not back off.
        if invocation.error is not None:
            self._scaling.failed()
        else:
            self._scaling.succeeded()
        if outcome.failed:
            left = max(item.expires_at for item in batch) - self._clock.time()
            self._log(
                "WARNING", f"{len(outcome.failed)} of {len(batch)} messages failed; they will be "
                f"received again within {max(0.0, left):.0f} s, or go to the dead-letter queue",
                requestId=invocation.request_id,
            )  # fmt: skip
        held_back: set[str] = set()
        for item in batch:
            group = item.received.message.group_id
            if item.id in outcome.failed:
                held_back.update({group} if group is not None else ())
                continue
            if group in held_back and item.received.message.sequence is not None:
                # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html: the
                # function is to stop at its first failure. Lambda deletes the message even so.
                self._log(
                    "WARNING", f"message {item.id} is deleted out of order: the function reported "
                    f"an earlier one of message group {group} as failed, but not this one",
                )  # fmt: skip
            try:
                self._queues.delete(self._queue, item.received.receipt_handle)
            except SqsError as error:
                self._log(
                    "WARNING", f"message {item.id} is processed but was not deleted, and will be "
                    f"delivered again: {error.message}",
                )  # fmt: skip

    def _outcome(self, invocation: Invocation, batch: list[BatchItem]) -> BatchOutcome:
        ids = [item.id for item in batch]
        if invocation.error is not None:
            return BatchOutcome(frozenset(ids), "the function failed")
        if not self.spec.report_batch_item_failures:
            return BatchOutcome(frozenset())
        outcome = batch_item_failures(invocation.payload, frozenset(ids))
        if outcome.reason is not None:
            self._log("ERROR", f"the whole batch counts as failed: {outcome.reason}",
                      requestId=invocation.request_id)  # fmt: skip
        return outcome

    def _discard(self, received: Received) -> None:
        self._journal.record(
            "message.filtered", function=self.spec.function, queue=self._queue,
            message_id=received.message.id,
        )  # fmt: skip
        self._queues.delete(self._queue, received.receipt_handle)

    def _log(self, level: str, message: str, **data: Any) -> None:
        self._journal.record(
            "log", function=self.spec.function, queue=self._queue,
            level=level, message=f"mapping of {self._queue}: {message}", **data,
        )  # fmt: skip


class EventSourceMappings:
    """Mappings by UUID."""

    def __init__(self) -> None:
        self._mappings: dict[str, EventSourceMapping] = {}

    def add(self, mapping: EventSourceMapping) -> str:
        identity = identity_of(mapping.spec)
        self._mappings[identity] = mapping
        return identity

    def remove(self, identity: str) -> None:
        self._mappings.pop(identity, None)

    def get(self, identity: str) -> EventSourceMapping | None:
        return self._mappings.get(identity)

    def __iter__(self) -> Iterator[tuple[str, EventSourceMapping]]:
        return iter(tuple(self._mappings.items()))


def identity_of(spec: QueueMappingSpec) -> str:
    """The UUID of a mapping; that of a template's is derived from what identifies it there."""
    if _UUID.fullmatch(spec.uuid):
        return spec.uuid
    name = f"{spec.queue_arn} {spec.function} {spec.uuid}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
