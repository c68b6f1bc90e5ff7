"""``twolane.deferred``: the deferred lane, which runs when the test says so."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from twolane_local.testing.errors import NotIdleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.faults.points import Points
    from twolane_local.testing.sources import Deliveries, Schedules
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
        """Deliver what is there now, and what that puts on the queues at once; ``max`` is the most
        messages to take. Returns how many were received.

        Time moves only as far as the tasks themselves sleep: what is delayed stays where it is.
        """
        parts = self._parts
        return self._deliver(lambda: parts.busy, max)

    def run_until_idle(self, *, within: timedelta = _LONGEST) -> int:
        """Deliver everything, delays and retries included: time leaps from one to the next until
        the queues are empty. Returns how many messages were received.

        What recurs by schedule stands still meanwhile. Raises ``NotIdleError`` where the lane is
        not empty after ``within``.
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
        """Deliver up to ``limit`` messages as long as there are any; time leaps on while
        ``go_on()``. Returns how many were received.
        """
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
