"""``twolane.deferred``: the deferred lane, and whatever else invokes a stack's functions by itself.

All of it runs only when the test lets it.
"""

from __future__ import annotations

import asyncio
import heapq
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws.event_source_mapping import EventSourceMapping, EventSourceMappings
from twolane_local.aws.scheduler.schedule import ScheduleSource
from twolane_local.aws.sources import MappingRunner
from twolane_local.testing import NotIdleError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from twolane_local.aws.invocation import Invoker
    from twolane_local.aws.scheduler.schedule import Schedule
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import QueueMappingSpec
    from twolane_local.model.message import Received
    from twolane_local.testing.task_points import Points
    from twolane_local.testing.world import World


#: The longest that SQS keeps a message: what is not done by then never will be.
_LONGEST = timedelta(days=14)


class Parts(Protocol):
    """What the lane needs of a stack."""

    world: World
    deliveries: Deliveries
    schedules: Schedules
    points: Points

    @property
    def busy(self) -> bool:
        """Whether any handler is in the middle of something."""

    def finish(self) -> None:
        """Let what is under way come to its end."""


class Deferred:
    """Delivers messages to the functions that are mapped to their queues."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def run(self, *, max: int | None = None) -> int:  # noqa: A002 - what it is called everywhere
        """Deliver at most ``max`` messages that are there now, and what those put on the queues at
        once; returns how many were received. Time moves only as far as tasks sleep: delays stay.
        """
        parts = self._parts
        return self._deliver(lambda: parts.busy, max)

    def run_until_idle(self, *, within: timedelta = _LONGEST) -> int:
        """Deliver everything, delays and retries included, until the queues are empty; time leaps
        on, while what recurs stands still. Returns how many were received. Raises ``NotIdleError``
        where the lane is not empty after ``within``.
        """
        parts = self._parts
        limit = parts.world.now + within.total_seconds()

        def go_on() -> bool:
            due = self._next_due()
            return parts.busy or (due is not None and due <= limit)

        total = self._deliver(go_on)
        while (due := self._next_due()) is not None:
            if due > limit:
                raise NotIdleError(
                    f"after {within} there is still work in the deferred lane: does a task publish "
                    "itself again? Run a number of messages with run(max=…), or let a time pass "
                    "with clock.advance(…)"
                )
            parts.world.drive(lambda: False, until=max(due, parts.world.now))
            total += self._deliver(go_on)
        return total

    def _deliver(self, go_on: Callable[[], bool], limit: int | None = None) -> int:
        """Deliver at most ``limit`` messages; leap on while ``go_on()``. Returns their number."""
        parts = self._parts
        deliveries = parts.deliveries
        allowance = deliveries.allowance
        allowance.left, allowance.taken = limit, 0
        try:
            while allowance.left != 0 and deliveries.ready():
                before = allowance.taken
                with self._delivering():
                    parts.world.drive(go_on)
                parts.finish()  # a mapping sends off what it has gathered when it is let go
                if allowance.taken == before:
                    break  # nobody takes it: a disabled mapping, a throttled function
            return allowance.taken
        finally:
            allowance.left = None

    def _next_due(self) -> float | None:
        parts = self._parts
        thaws = min(parts.points.frozen.values(), default=None)
        dues = (parts.deliveries.next_due(), parts.schedules.next_once(), thaws)
        return min((due for due in dues if due is not None), default=None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The lane runs beside the requests of this block, as it does on AWS."""
        with self._delivering():
            yield
        self._parts.finish()

    @contextmanager
    def _delivering(self) -> Iterator[None]:
        deliveries = self._parts.deliveries
        deliveries.let(True)
        try:
            yield
        finally:
            deliveries.let(False)


class Schedules(ScheduleSource):
    """Fires what recurs only while ``recurring``; one-time entries, long delays, at all times."""

    recurring = False

    def let(self, recurring: bool) -> None:
        """From now on fire, or do not fire, what recurs; what fell due meanwhile is passed over."""
        self.recurring = recurring
        now = self._clock.time()
        for schedule in self.book:
            if schedule.expression.recurring:
                self.book.note_fired(schedule, now)
        self._known = {
            name: schedule
            for name, schedule in self._known.items()
            if not schedule.expression.recurring
        }
        self._due = [due for due in self._due if not due[2].expression.recurring]
        heapq.heapify(self._due)
        self.book.changed.set()

    def next_once(self) -> float | None:
        """When the next one-time entry is due."""
        return min((at for at, _, due in self._due if not due.expression.recurring), default=None)

    def _plan(self, schedule: Schedule, after: float) -> bool:
        if schedule.expression.recurring and not self.recurring:
            return False
        return super()._plan(schedule, after)


class Allowance:
    """How many more messages the deferred lane may take; ``None``: as many as there are."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues
        self.left: int | None = None
        self.taken = 0
        self.exhausted: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queues, name)

    def receive(self, name: str, limit: int = 1, **options: Any) -> list[Received]:
        """As the queues do, within the allowance."""
        if self.left is not None:
            limit = min(limit, self.left)
        found = self._queues.receive(name, limit, **options) if limit else []
        self.taken += len(found)
        if self.left is not None:
            self.left -= len(found)
            if not self.left:
                self.exhausted()
        return found


class Deliveries:
    """The mappings of a stack: held, until the test lets them deliver."""

    def __init__(
        self,
        queues: QueueService,
        invoker: Invoker,
        clock: Clock,
        journal: Journal,
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]],
    ) -> None:
        """``run`` starts what is to run beside the rest."""
        allowance: Any = Allowance(queues)
        self.allowance: Allowance = allowance
        self.allowance.exhausted = lambda: self.let(False)
        self.registry = EventSourceMappings()
        self._queues = queues
        self._delivers = False

        def make(spec: QueueMappingSpec) -> EventSourceMapping:
            mapping = EventSourceMapping(spec, allowance, invoker, clock, journal)
            mapping.hold(not self._delivers)
            return mapping

        #: Runs the mappings that it is given from now on.
        self.apply = MappingRunner(self.registry, make, run).apply

    @property
    def _mappings(self) -> list[EventSourceMapping]:
        return [mapping for _, mapping in self.registry]

    def let(self, deliver: bool) -> None:
        """From now on take messages, or take no more. A mapping that the template, or the test,
        has disabled stays so.
        """
        self._delivers = deliver
        for mapping in self._mappings:
            mapping.hold(not deliver)

    @property
    def under_way(self) -> int:
        """How many batches are with their functions."""
        return sum(mapping.under_way for mapping in self._mappings)

    @property
    def queues(self) -> list[str]:
        return [mapping.spec.queue_arn.rpartition(":")[2] for mapping in self._mappings]

    def ready(self) -> bool:
        """Whether a message could be delivered now."""
        return any(self._queues.refreshed(name).ready() for name in self.queues)

    def next_due(self) -> float | None:
        """When the next delayed message, or one in flight, becomes visible."""
        dues = (self._queues.refreshed(name).next_due() for name in self.queues)
        return min((due for due in dues if due is not None), default=None)


async def settle(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait for their ends."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
