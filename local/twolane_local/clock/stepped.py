"""A clock that a person can pause, step and advance while the emulator runs."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import time_machine


#: At the size of an epoch a float's own steps are 0.2 µs: a leap may end that much too early.
_TINY_S = 1e-5


def real_time() -> Callable[[], float]:
    """The wall clock, told by the monotonic one: whoever patches ``time.time`` does not move it."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


class SteppedClock:
    """``twolane_local.clock.Clock`` whose time is real time, shifted; paused, it stands still.

    Whoever waits on it is woken by the clock's own movement as by the passing of real time. It only
    ever goes forward. ``moved`` hears of each pause, resumption and leap, with the new time and
    whether it runs: to move along what reads time elsewhere. Reading is safe from any thread; the
    rest belongs to the event loop.
    """

    def __init__(
        self,
        *,
        real: Callable[[], float] | None = None,
        moved: Callable[[float, bool], None] | None = None,
    ) -> None:
        self._real = real or real_time()
        self._moved = moved
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
        """Seconds that it is ahead of real time."""
        return self.time() - self._real()

    @property
    def waiting(self) -> list[float]:
        """When those who wait are due, soonest first, in seconds since the epoch."""
        return sorted(self._waiting.values())

    def time(self) -> float:
        paused_at = self._paused_at
        return self._real() + self._offset if paused_at is None else paused_at

    def pause(self) -> None:
        """Stand still; nothing more becomes due."""
        if self._paused_at is None:
            self._paused_at = self.time()
            self._tell()

    def resume(self) -> None:
        """Run on from where it stands."""
        if self._paused_at is not None:
            self._offset = self._paused_at - self._real()
            self._paused_at = None
            self._tell()

    def advance(self, seconds: float) -> None:
        """Leap ahead; what is due then happens now, at that time. Raises ``ValueError`` below 0."""
        if seconds < 0:
            raise ValueError("time goes forward only")
        if self._paused_at is None:
            self._offset += seconds
        else:
            self._paused_at += seconds
        self._tell()

    def step(self) -> float:
        """Leap to the next moment that somebody waits for; tells by how many seconds."""
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
        told = asyncio.ensure_future(event.wait())
        try:
            while not event.is_set() and (left := due - self.time()) > _TINY_S:
                changed.clear()
                await self._either(told, changed, None if self.paused else left)
        finally:
            del self._waiting[turn]
            self._changes.discard(changed)
            told.cancel()
        return event.is_set()

    @staticmethod
    async def _either(
        told: asyncio.Future[Any], changed: asyncio.Event, timeout_s: float | None
    ) -> None:
        moved: asyncio.Future[Any] = asyncio.ensure_future(changed.wait())
        try:
            await asyncio.wait(
                [told, moved], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            moved.cancel()

    def _tell(self) -> None:
        if self._moved is not None:
            self._moved(self.time(), not self.paused)
        for changed in self._changes:
            changed.set()


#: A clock this close to real time is real time.
_SAME_S = 0.001


class ProcessTime:
    """Patches time once the clock is first moved, and not before; ``close`` when done."""

    def __init__(self) -> None:
        self.clock = SteppedClock(moved=self._moved)
        self._travel: time_machine.travel | None = None

    def close(self) -> None:
        """Have the process read real time again."""
        if self._travel is not None:
            self._travel.stop()
            self._travel = None

    def _moved(self, now: float, running: bool) -> None:
        import time_machine

        self.close()
        if running and abs(self.clock.offset) < _SAME_S:
            return
        self._travel = time_machine.travel(now, tick=running)
        self._travel.start()
