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
from twolane_local.aws.scheduler.source import ScheduleSource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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
        self._mappings, self._book = mappings, book
        #: What each mapping is to become, ``None`` if it is to end; and what runs of it.
        self._wanted: dict[str, EventSourceMapping | None] = {}
        self._running: dict[str, tuple[EventSourceMapping, asyncio.Task[Any]]] = {}
        self._replacing: dict[str, asyncio.Task[Any]] = {}
        self._schedules: asyncio.Task[Any] | None = None
        self._scheduled: tuple[ScheduleSpec, ...] | None = None

    async def apply(self, stack: Stack) -> None:
        """Run the sources of the stack.

        A mapping that changes, or is no longer there, first ends its batches; nothing waits for it
        but its own successor. Raises ``MappingError`` or ``PatternError``, and changes nothing
        then, if AWS would refuse one.
        """
        wanted = {identity_of(spec): self._make(spec) for spec in stack.mappings}
        self._wanted = {**dict.fromkeys(self._running), **wanted}
        for identity in self._wanted:
            self._reconcile(identity)
        if self._schedules is None or stack.schedules != self._scheduled:
            await self._reschedule(stack)

    def _make(self, spec: QueueMappingSpec) -> EventSourceMapping:
        return EventSourceMapping(spec, self._queues, self._invoker, self._clock, self._journal)

    def _reconcile(self, identity: str) -> None:
        """Start a mapping, switch it on or off, or begin to replace it by what is wanted."""
        wanted = self._wanted[identity]
        if identity not in self._running:
            if wanted is not None:
                self._mappings.add(wanted)
                self._running[identity] = wanted, self._run(wanted.run())
            return
        mapping, _ = self._running[identity]
        ending = identity in self._replacing
        if wanted is not None and _same(mapping.spec, wanted.spec) and not ending:
            mapping.adopt(wanted.spec)
            return
        mapping.end(DELETING if wanted is None else UPDATING)
        if not ending:
            self._replacing[identity] = self._run(self._replace(identity))

    async def _replace(self, identity: str) -> None:
        mapping, task = self._running[identity]
        await mapping.drained()
        await _cancel(task)
        self._mappings.remove(identity)
        del self._running[identity], self._replacing[identity]
        self._reconcile(identity)

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
        for task in (*self._replacing.values(), *(task for _, task in self._running.values())):
            await _cancel(task)
        await _cancel(self._schedules)


def _same(one: QueueMappingSpec, other: QueueMappingSpec) -> bool:
    """True if they differ in nothing but what a running mapping can change."""
    return replace(one, enabled=other.enabled) == other


async def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
