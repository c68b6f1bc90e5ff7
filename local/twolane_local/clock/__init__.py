"""The one clock. Everything in the local layer that waits, waits on it.

Real time is here. ``stepped`` is paused and moved by a person; ``virtual`` is an event loop whose
clock leaps, and ``threads`` are the threads of execution environments that wait on that loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the emulator sees it: real, or moved by a test."""

    def time(self) -> float:
        """Seconds since the epoch."""

    async def sleep(self, seconds: float) -> None:
        """Return once ``seconds`` of this clock have passed (at once for zero or less)."""

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        """Wait for ``event`` at most ``timeout_s`` seconds of this clock; tell whether it is set.

        ``None`` waits without end.
        """


class SystemClock:
    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        if timeout_s is None:
            return await event.wait()
        try:
            async with asyncio.timeout(timeout_s):
                return await event.wait()
        except TimeoutError:
            return False
