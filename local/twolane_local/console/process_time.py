"""Has this whole process read the time of a clock that is moved: for functions that run in it.

A task's ETA, a lease's end and a token's expiry are read from ``time.time`` and ``datetime.now`` in
application code; they must agree with the queues' clock. ``time.monotonic`` stays real, and with it
event loops, sockets and function timeouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.console.stepped_clock import SteppedClock

if TYPE_CHECKING:
    import time_machine

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
