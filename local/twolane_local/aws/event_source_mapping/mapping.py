"""One SQS event source mapping: polls a queue, invokes a function, deletes what succeeded.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html

- The messages of a successful batch are deleted; with ``ReportBatchItemFailures``, all but those
  that the function reports.
- Failed messages stay invisible until the queue's visibility timeout is over, then they are
  received again; the queue moves them to its dead-letter queue after ``maxReceiveCount``.
- Messages of a recursive loop count as failed, without an invocation, on every receive.
- A throttled invocation is tried again until the visibility timeout of its messages is over; they
  are then received again, so throttles use up receives:
  https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from twolane_local.aws.event_source_mapping.batch import (
    Batcher,
    BatchItem,
    BatchOutcome,
    batch_item_failures,
    payload_of,
)
from twolane_local.aws.event_source_mapping.limits import Scaling, check
from twolane_local.aws.events.patterns import compile_filters
from twolane_local.aws.invocation import RecursiveInvocationError, ThrottledError
from twolane_local.aws.sqs.errors import QueueDoesNotExistError, SqsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.aws.invocation import Invocation, Invoker
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import QueueMappingSpec
    from twolane_local.model.message import Received


#: Waits between tries of a throttled batch, in seconds; AWS documents only that they grow.
THROTTLE_FIRST_S, THROTTLE_MOST_S = 0.2, 10.0


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
        self.enabled = spec.enabled

    @property
    def enabled(self) -> bool:
        return self._enabled.is_set()

    @enabled.setter
    def enabled(self, on: bool) -> None:
        """A disabled mapping receives no more messages, but sends the batch that it has begun."""
        self._batcher.closing = not on
        if on:
            self._enabled.set()
        else:
            self._enabled.clear()
            self._queues.wake(self._queue)

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
                await self._enabled.wait()
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

    async def drain(self) -> None:
        """Receive no more messages and return once no batch is under way."""
        self.enabled = False
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
    """Mappings by UUID, which is derived from what identifies the mapping in its template."""

    def __init__(self) -> None:
        self._mappings: dict[str, EventSourceMapping] = {}

    def add(self, mapping: EventSourceMapping) -> str:
        spec = mapping.spec
        name = f"{spec.queue_arn} {spec.function} {spec.uuid}"
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self._mappings[identity] = mapping
        return identity

    def remove(self, identity: str) -> None:
        self._mappings.pop(identity, None)

    def get(self, identity: str) -> EventSourceMapping | None:
        return self._mappings.get(identity)

    def __iter__(self) -> Iterator[tuple[str, EventSourceMapping]]:
        return iter(tuple(self._mappings.items()))
