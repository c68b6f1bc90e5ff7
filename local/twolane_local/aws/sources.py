"""Starts and stops the event source mappings and schedules of a stack."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.event_source_mapping import (
    DELETING,
    UPDATING,
    EventSourceMapping,
    identity_of,
)
from twolane_local.aws.scheduler.schedule import ScheduleSource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from twolane_local.aws.event_source_mapping import EventSourceMappings
    from twolane_local.aws.invocation import Invoker
    from twolane_local.aws.scheduler.schedule import ScheduleBook
    from twolane_local.aws.scheduler.targets import Invocations
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import QueueMappingSpec, ScheduleSpec, Stack


class Sources:
    """Runs the event sources of a stack; calls ``failed`` with the error that ends one."""

    def __init__(
        self,
        queues: QueueService,
        invoker: Invoker,
        asynchronous: Invocations,
        clock: Clock,
        journal: Journal,
        *,
        mappings: EventSourceMappings,
        book: ScheduleBook,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._queues, self._invoker, self._asynchronous = queues, invoker, asynchronous
        self._clock, self._journal, self._failed = clock, journal, failed
        self._mappings, self._book = MappingRunner(mappings, self._make, self._run), book
        self._schedules: asyncio.Task[Any] | None = None
        self._scheduled: tuple[ScheduleSpec, ...] | None = None

    async def apply(self, stack: Stack) -> None:
        """Run the sources of the stack."""
        self._mappings.apply(stack.mappings)
        if self._schedules is None or stack.schedules != self._scheduled:
            await self._reschedule(stack)

    def _make(self, spec: QueueMappingSpec) -> EventSourceMapping:
        return EventSourceMapping(spec, self._queues, self._invoker, self._clock, self._journal)

    async def _reschedule(self, stack: Stack) -> None:
        await _cancel(self._schedules)
        # Only those of the former template: functions create schedules too, by the API.
        former = {(spec.source, spec.name) for spec in self._scheduled or ()}
        for schedule in list(self._book):
            if (schedule.source, schedule.name) in former:
                self._book.remove(schedule)
        self._scheduled = stack.schedules
        for group in stack.schedule_groups:
            self._book.groups.setdefault(group, self._clock.time())
        source = ScheduleSource(
            stack.schedules,
            self._asynchronous,
            self._queues,
            self._clock,
            self._journal,
            book=self._book,
        )
        self._schedules = self._run(source.run())

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)

        def done(finished: asyncio.Task[Any]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if error is not None:
                self._failed(error)

        task.add_done_callback(done)
        return task

    async def stop(self) -> None:
        """Stop at once; batches under way are received again, as after a crash."""
        await self._mappings.stop()
        await _cancel(self._schedules)


async def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


class MappingRunner:
    """Makes the mappings that run the same as those that are wanted.

    A mapping that changes, or is no longer wanted, first ends its batches; only its own successor
    waits for that.
    """

    def __init__(
        self,
        mappings: EventSourceMappings,
        make: Callable[[QueueMappingSpec], EventSourceMapping],
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]],
    ) -> None:
        """``mappings`` is kept up to date; ``run`` starts a task, and handles its error."""
        self._mappings, self._make, self._run = mappings, make, run
        self._wanted: dict[str, EventSourceMapping | None] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._replacing: dict[str, asyncio.Task[Any]] = {}

    def apply(self, specs: Iterable[QueueMappingSpec]) -> None:
        """Raises ``MappingError`` or ``PatternError``, and changes nothing then, if AWS would
        refuse one of them.
        """
        wanted = {identity_of(spec): self._make(spec) for spec in specs}
        self._wanted = {**dict.fromkeys(self._tasks), **wanted}
        for identity in self._wanted:
            self._reconcile(identity)

    def _reconcile(self, identity: str) -> None:
        wanted, mapping = self._wanted[identity], self._mappings.get(identity)
        if mapping is None:
            if wanted is not None:
                self._mappings.add(wanted)
                self._tasks[identity] = self._run(wanted.run())
            return
        ending = identity in self._replacing
        if wanted is not None and _same(mapping.spec, wanted.spec) and not ending:
            mapping.adopt(wanted.spec)
            return
        mapping.end(DELETING if wanted is None else UPDATING)
        if not ending:
            self._replacing[identity] = self._run(self._replace(identity, mapping))

    async def _replace(self, identity: str, mapping: EventSourceMapping) -> None:
        await mapping.drained()
        task = self._tasks.pop(identity)
        task.cancel()
        await asyncio.wait([task])
        self._mappings.remove(identity)
        del self._replacing[identity]
        self._reconcile(identity)

    async def stop(self) -> None:
        """Stop at once; batches under way are received again, as after a crash."""
        if tasks := [*self._replacing.values(), *self._tasks.values()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _same(one: QueueMappingSpec, other: QueueMappingSpec) -> bool:
    """True if they differ in nothing but what a running mapping can change."""
    return replace(one, enabled=other.enabled) == other
