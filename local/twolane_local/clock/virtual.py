"""Virtual time for tests: a day of waiting passes in milliseconds, in the same order every time.

The event loop itself is virtual. Whenever nothing is ready to run, its clock leaps to the next
timer, so that every ``asyncio.sleep``, timeout and ``Clock`` wait is instant, and time stands still
while anything runs. Work on threads (``asyncio.to_thread``, ``run_in_executor``, or whatever is
wrapped in ``VirtualClock.real_work``) is waited for in real time before the clock leaps.

    def test_a_day() -> None:
        async def main(clock: VirtualClock) -> None:
            await clock.sleep(86_400)

        run_virtual(main, start=1_767_225_600.0)
"""

from __future__ import annotations

import asyncio
import selectors
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from twolane_local.clock import SystemClock
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Real seconds after which work that does not end is taken for a dead end.
_STALLED_S = 30.0
#: 2026-01-01T00:00:00Z
NEW_YEAR = 1_767_225_600.0


class StalledError(LocalError):
    """Everything waits, and nothing is left that could wake it: no timer, no thread, no socket."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock leaps over what would be waiting."""

    def __init__(
        self,
        start: float = NEW_YEAR,
        on_leap: Callable[[float], None] | None = None,
        socket_grace_s: float = 0.005,
    ) -> None:
        self.epoch_s = start
        self.socket_grace_s = socket_grace_s
        self.real_work = 0
        #: Asked before each leap, with the time that it would lead to (``None``: nothing is due any
        #: more); where it says no, ``run_forever`` returns instead.
        self.gate: Callable[[float | None], bool] | None = None
        self._real_since: float | None = None
        self._on_leap = on_leap
        super().__init__(_LeapingSelector(self))
        # In debug mode it would refuse other threads, of which some come in while it stands still.
        self.set_debug(False)
        # asyncio runs a timer once its time lies below now + resolution, and at the size of an
        # epoch a float's own steps are 0.2 µs: the system's nanosecond would vanish in the sum.
        self._clock_resolution = 1e-6
        self.own_sockets = len(self.selector.get_map())
        if on_leap is not None:
            on_leap(start)

    @property
    def selector(self) -> selectors.BaseSelector:
        selector: selectors.BaseSelector = self._selector  # type: ignore[attr-defined]
        return selector

    def time(self) -> float:
        """The loop's own time is the virtual wall clock: one axis, nothing to convert."""
        if self._real_since is not None:
            return self.epoch_s + time.monotonic() - self._real_since
        return self.epoch_s

    def leap(self, seconds: float) -> None:
        """Move the clock; timers that are then due run next."""
        self.epoch_s += seconds
        if self._on_leap is not None:
            self._on_leap(self.epoch_s)

    @property
    def in_real_time(self) -> bool:
        return self._real_since is not None

    def go_real(self) -> None:
        """From now on the clock runs as real clocks do."""
        self._real_since = time.monotonic()

    def go_virtual(self) -> None:
        """From now on the clock leaps again, from the time that it has come to."""
        now, self._real_since = self.time(), None
        self.leap(now - self.epoch_s)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.real_work += 1
        future.add_done_callback(self._work_ended)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """In real time: from Python 3.12 on it waits for its threads by a timeout of minutes."""
        self.go_real()
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self.go_virtual()

    def _work_ended(self, _: object) -> None:
        self.real_work -= 1


class _LeapingSelector(selectors.DefaultSelector):
    """Where a loop would block, its virtual clock leaps instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._loop.in_real_time:
            return super().select(timeout)
        sockets = len(self.get_map()) > self._loop.own_sockets
        if timeout is not None and timeout <= 0 and not sockets:
            return []  # there is something to do; what another thread has to say is among it
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.real_work:
            return self._real(_STALLED_S)
        gate = self._loop.gate
        if gate is not None and not gate(None if timeout is None else self._loop.time() + timeout):
            self._loop.stop()
            return []
        return self._instead_of_waiting(timeout)

    def _instead_of_waiting(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        sockets = len(self.get_map()) > self._loop.own_sockets
        if sockets and (ready := super().select(self._loop.socket_grace_s)):
            return ready
        if timeout is None:
            return super().select(None) if sockets else self._real(_STALLED_S)
        self._loop.leap(timeout)
        return []

    def _real(self, seconds: float) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(seconds)
        if not ready:
            raise StalledError
        return ready


class VirtualClock(SystemClock):
    """The clock of a ``VirtualLoop``. Sleeps and waits are those of the loop that they run on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        return self._loop.time()

    @contextmanager
    def real_work(self) -> Iterator[None]:
        """Time stands still inside: for work on threads or processes that the loop cannot see."""
        self._loop.real_work += 1
        try:
            yield
        finally:
            self._loop.real_work -= 1

    @contextmanager
    def real_time(self) -> Iterator[None]:
        """Time runs as it does outside: for starting servers and processes, which are polled."""
        self._loop.go_real()
        try:
            yield
        finally:
            self._loop.go_virtual()


def run_virtual(
    main: Callable[[VirtualClock], Coroutine[Any, Any, T]],
    *,
    start: float = NEW_YEAR,
    on_leap: Callable[[float], None] | None = None,
    socket_grace_s: float = 0.005,
) -> T:
    """Run ``main`` to its end in virtual time from ``start`` (epoch seconds). ``on_leap`` is told
    each new time, first ``start``. ``socket_grace_s`` real seconds are given to an open socket to
    speak before a leap; 0 is enough where all of them are served on this loop's threads.
    """
    loop = VirtualLoop(start, on_leap, socket_grace_s)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(VirtualClock(loop)))
