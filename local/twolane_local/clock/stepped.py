"""A clock that a person can pause, step and advance while the emulator runs."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import time_machine


#: A float of the size of an epoch has steps of 0.2 µs: a leap may end that much too early.
_TINY_S = 1e-5


def real_time() -> Callable[[], float]:
    """Return a wall clock on the monotonic one, which patches of ``time.time`` do not move."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


class SteppedClock:
    """``twolane_local.clock.Clock`` in real time plus an offset that only grows; it can be paused.
    A move wakes waiting tasks, as passing time does; ``on_move`` is called after each, with the new
    time and whether it runs. Any thread may read the time; all else is the event loop's.
    """

    def __init__(
        self,
        *,
        real: Callable[[], float] | None = None,
        on_move: Callable[[float, bool], None] | None = None,
    ) -> None:
        self._real = real or real_time()
        self._on_move = on_move
        self._offset = 0.0
        self._paused_at: float | None = None
        self._changes: set[asyncio.Event] = set()
        self._waiting: dict[int, float] = {}
        self._turn = itertools.count()

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    @property
    def offset(self) -> float:
        """The seconds by which it is ahead of real time."""
        return self.time() - self._real()

    @property
    def waiting(self) -> list[float]:
        """The times at which waiting tasks are due, soonest first, in seconds since the epoch."""
        return sorted(self._waiting.values())

    def time(self) -> float:
        paused_at = self._paused_at
        return self._real() + self._offset if paused_at is None else paused_at

    def pause(self) -> None:
        """Stop the clock; nothing becomes due until ``resume``."""
        if self._paused_at is None:
            self._paused_at = self.time()
            self._notify()

    def resume(self) -> None:
        """Go on from the present time."""
        if self._paused_at is not None:
            self._offset = self._paused_at - self._real()
            self._paused_at = None
            self._notify()

    def advance(self, seconds: float) -> None:
        """Leap ahead, and wake the tasks that are then due. Raises ``ValueError`` below 0."""
        if seconds < 0:
            raise ValueError("time goes forward only")
        if self._paused_at is None:
            self._offset += seconds
        else:
            self._paused_at += seconds
        self._notify()

    def step(self) -> float:
        """Leap to the time at which the next task is due; return the seconds of the leap."""
        ahead = [at for at in self._waiting.values() if at > self.time()]
        leap = max(0.0, min(ahead) - self.time()) if ahead else 0.0
        self.advance(leap)
        return leap

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self.wait(asyncio.Event(), seconds)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        if event.is_set():
            return True
        if timeout_s is None:
            await event.wait()
            return True
        due, turn = self.time() + timeout_s, next(self._turn)
        self._waiting[turn] = due
        changed = asyncio.Event()
        self._changes.add(changed)
        is_set: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
        try:
            while not event.is_set() and (left := due - self.time()) > _TINY_S:
                changed.clear()
                moved: asyncio.Future[Any] = asyncio.ensure_future(changed.wait())
                try:
                    await asyncio.wait(
                        [is_set, moved],
                        timeout=None if self.paused else left,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    moved.cancel()
        finally:
            del self._waiting[turn]
            self._changes.discard(changed)
            is_set.cancel()
        return event.is_set()

    def _notify(self) -> None:
        if self._on_move is not None:
            self._on_move(self.time(), not self.paused)
        for changed in self._changes:
            changed.set()


#: A clock this close to real time counts as real time.
_SAME_S = 0.001


class ProcessTime:
    """A ``SteppedClock`` that takes the process's time along: time is patched once it moves."""

    def __init__(self) -> None:
        self.clock = SteppedClock(on_move=self._follow)
        self._travel: time_machine.travel | None = None

    def close(self) -> None:
        """Restore real time in the process."""
        if self._travel is not None:
            self._travel.stop()
            self._travel = None

    def _follow(self, now: float, running: bool) -> None:
        import time_machine

        self.close()
        if running and abs(self.clock.offset) < _SAME_S:
            return
        self._travel = time_machine.travel(now, tick=running)
        self._travel.start()
