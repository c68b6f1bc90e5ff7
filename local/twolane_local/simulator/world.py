"""One run's world: queues, mapping, schedules, functions, store; virtual time, and faults."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import uuid
from typing import TYPE_CHECKING, Any

from twolane.environment.logs import correlation
from twolane_local.aws.event_source_mapping.mapping import EventSourceMapping
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.scheduler.api import SchedulerApi
from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.aws.scheduler.source import ScheduleSource
from twolane_local.faults.injection import Faults
from twolane_local.faults.invoker import FaultyInvoker, FaultyTicks
from twolane_local.faults.points import Points
from twolane_local.faults.queues import FaultyQueues, RequestTimeoutError, task_id_of, task_name_of
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, QueueMappingSpec
from twolane_local.simulator import patches
from twolane_local.simulator.facts import Fact, History
from twolane_local.simulator.functions import Functions
from twolane_local.testing.threads import Process, current
from twolane_local.testing.world import World as VirtualWorld

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Coroutine, Mapping

    from twolane.worker.lease import Lease
    from twolane_local.aws.sqs.service import NewMessage
    from twolane_local.model.message import Message
    from twolane_local.simulator.application import Application
    from twolane_local.virtual_clock import VirtualClock

QUEUE, DEAD = "tasks", "tasks-dead"


class Queues(FaultyQueues):
    """Says what SQS took: the body as it arrived, the task as it was sent."""

    world: World

    def send(self, name: str, new: NewMessage) -> Message:
        task, _ = self.world.sending = (task_id_of(new.body), task_name_of(new.body))
        try:
            return super().send(name, new)
        except RequestTimeoutError:
            self.world.note("answer.lost", task=task)
            raise

    def _put(self, queue: Any, message: Message, **times: Any) -> Any:
        entry = super()._put(queue, message, **times)
        task, name = self.world.sending
        self.world.note(
            "body.taken", task=task, message=message.id, queue=queue.name, body=message.body,
            name=name,
        )  # fmt: skip
        return entry


class World:
    """Use ``run``; everything else is for what runs in it."""

    def __init__(
        self,
        application: Application,
        seed: int,
        faults: Callable[[Journal, VirtualClock], Faults] = Faults,
    ) -> None:
        self.application, self.seed = application, seed
        self.history = History()
        # Each use has a stream of its own: one id more must not change a latency.
        self._ids, self._latencies, self._spread = (
            random.Random(f"{seed} {use}")  # noqa: S311 - a repeatable run, no secret
            for use in ("ids", "latencies", "spread")
        )
        self.virtual = VirtualWorld(application.start)
        self.loop, self.clock = self.virtual.loop, self.virtual.clock
        journal = self.journal = Journal(self.clock)
        journal.subscribe(self.history.heard)
        self.faults = faults(journal, self.clock)
        self.queues = Queues(self.clock, journal, rng=random.Random(seed))  # noqa: S311
        self.queues.world, self.queues.faults = self, self.faults
        self.sending: tuple[str | None, str | None] = (None, None)
        self.points = Points(self.faults, self.clock)
        self.store = application.store(self)
        book = self._book = ScheduleBook()
        self.scheduler = SchedulerApi(book, self.clock)

    def run(self, script: Callable[[World], Coroutine[Any, Any, None]]) -> History:
        """Start everything, run the script to its end, stop everything."""
        # Cycles hold results, whose end talks to the store: that must not happen at any moment.
        collecting = gc.isenabled()
        gc.disable()
        try:
            with patches.patched(self, self.application.celery):
                self.virtual.run(self._main(script))
        finally:
            self.virtual.close()
            if collecting:
                gc.enable()
        return self.history

    async def _main(self, script: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        self._make_queues()
        self.functions = Functions(self.application.functions, self)
        self.invoker = FaultyInvoker(self.functions, self.faults, self.clock)
        mapping = EventSourceMapping(
            QueueMappingSpec(
                "worker", self.queues.arn(QUEUE), report_batch_item_failures=True,
                maximum_concurrency=4, uuid="simulated", batch_size=self.application.batch_size,
            ),
            self.queues, self.invoker, self.clock, self.journal,
        )  # fmt: skip
        specs = {
            name: FunctionSpec(name, name, name, self.application.root)
            for name in self.application.functions
        }
        asynchronous = AsyncInvocations(self.invoker, specs, self.queues, self.clock, self.journal)
        schedules = ScheduleSource(
            self.application.schedules,
            FaultyTicks(asynchronous, self.faults, self.loop.call_later),
            self.queues, self.clock, self.journal, book=self._book, rng=self._spread,
        )  # fmt: skip
        running = [asyncio.ensure_future(each.run()) for each in (mapping, schedules)]
        try:
            await script(self)
        finally:
            for task in running:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*running)
            await asynchronous.close()
            self.functions.close()

    def _make_queues(self) -> None:
        attributes = self.application.queue_attributes
        self.queues.ensure(DEAD, {})
        redrive = (
            f'{{"deadLetterTargetArn":"{self.queues.arn(DEAD)}",'
            f'"maxReceiveCount":{self.application.bounds.max_receives}}}'
        )
        self.queues.ensure(QUEUE, {**attributes, "RedrivePolicy": redrive})

    def stop_schedules(self) -> None:
        """No tick comes any more."""
        for schedule in list(self._book):
            self._book.remove(schedule)

    @property
    def scheduled(self) -> int:
        """How many schedules there are that fire again."""
        return len(list(self._book))

    async def operate(self, work: Callable[[], Any]) -> None:
        """Run what a person at a terminal does, in a process of its own; its errors are theirs."""
        process = Process(self.loop)
        try:
            await process.run(work)
        except Exception as error:  # noqa: BLE001 - the store may be down for people too
            self.note("operator.failed", error=repr(error))
        finally:
            process.close()

    # What happens in it.

    def note(
        self, kind: str, *, task: str | None = None, message: str | None = None,
        queue: str | None = None, where: str | None = None, **data: Any,
    ) -> None:  # fmt: skip
        """One more fact."""
        self.history.add(Fact(self.clock.time(), kind, task, message, queue, where, data))

    def where(self) -> str | None:
        """The execution environment that this runs in, if it runs in one."""
        process = current.get()
        environment = self.functions.of(process) if process is not None else None
        return environment.name if environment else None

    def logged(self, record: logging.LogRecord) -> None:
        """A line of the runtime's log."""
        kind, fields = patches.event_of(record)
        known = correlation.get() or {}
        task = fields.pop("taskId", None) or known.get("taskId")
        fields.pop("queue", None)
        message = fields.pop("messageId", None)
        self.journal.record(kind, function=self.where(), task_id=task, message_id=message, **fields)

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """The store has another lease under a key."""
        from twolane_local.simulator.store import task_of

        process = current.get()
        environment = self.functions.of(process) if process is not None else None
        where = environment.name if environment else None
        if lease is None:
            self.note("lease.changed", task=task_of(key), where=where, key=key, state=None)
            return
        granted = lease.state == "running"
        self.note(
            "lease.changed", task=task_of(key), where=where, key=key, state=str(lease.state),
            holder=lease.delivery.holder, publish=lease.delivery.publish, since=lease.since,
            until=lease.until,
        )  # fmt: skip
        if granted and environment is not None:
            environment.lease = (key, lease.delivery.holder)
            self.points.inside("task.begins", task_of(key))

    def result_changed(self, task: str, stored: Mapping[str, Any] | None) -> None:
        """The store has another state of a task; ``None``: it has none any more."""
        status = stored["status"] if stored else None
        result = stored.get("result") if stored else None
        # The message, too: what a retry that cannot be sent is rejected for is named in it.
        error = (
            {"error": f"{result.get('exc_type')}: {result.get('exc_message')}"[:500]}
            if isinstance(result, dict)
            else {}
        )
        self.note("result.changed", task=task, status=status, **error)
        if status in ("SUCCESS", "FAILURE"):
            self.points.inside("result.stored", task)

    def called(self, what: str) -> None:
        """A call of an environment's was carried out; its answer is still to come."""
        self.points.inside("call.after", what)

    def effect(self, task: str, what: str) -> None:
        """A task does what cannot be undone; called in its process, inside its run."""
        if (process := current.get()) is not None:
            # Whoever does it takes a while, in which anything else may happen.
            process.sleep(self._latencies.choice(self.application.effect_s))
        self.points.inside("effect.before", task)
        process = current.get()
        environment = self.functions.of(process) if process is not None else None
        lease, holder = (environment and environment.lease) or (None, None)
        self.note(
            "effect.committed", task=task, where=environment.name if environment else None,
            lease=lease, holder=holder, what=what,
        )  # fmt: skip
        self.points.inside("effect.after", task)

    def random_bytes(self, count: int) -> bytes:
        """Stands for ``os.urandom``: ids are the same in each run of a seed."""
        return self._ids.randbytes(count)

    def new_id(self) -> str:
        """A request id."""
        return str(uuid.UUID(bytes=self.random_bytes(16), version=4))
