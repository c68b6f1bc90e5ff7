"""The thread that keeps an eye on the invocation's remaining time while work goes on.

A thread and not a timer on the loop, because work that blocks the loop is what most needs to be
watched. It wakes twice in an invocation: when the reserve is reached, and shortly before the kill.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.api.inline import Lane

#: Enough to write a log line in before Lambda kills the process.
LAST_WORDS_S = 0.2


class Watchdog:
    """Watches one lane at a time, which is all that an execution environment has."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lane: Lane | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def watch(self, lane: Lane) -> None:
        """Watch over ``lane`` until it has ended. Starts the thread when first needed."""
        if lane.remaining() == float("inf"):
            return
        with self._changed:
            if self._lane is lane:
                return
            self._lane = lane
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="twolane-watchdog", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lane is not None or self._stopped)
                lane, stopped = self._lane, self._stopped
            if stopped or lane is None:
                return
            if self._reached(lane, lane.reserve_s):
                lane.close()
                if self._reached(lane, LAST_WORDS_S):
                    lane.last_words()
            with self._changed:
                if self._lane is lane:
                    self._lane = None

    def _reached(self, lane: Lane, left_s: float) -> bool:
        """Wait until ``left_s`` seconds remain; ``False`` if the lane ended or changed first."""
        over: Callable[[], bool] = lambda: lane.ended or self._lane is not lane or self._stopped  # noqa: E731
        with self._changed:
            while not over():
                wait_s = lane.remaining() - left_s
                if wait_s <= 0:
                    return True
                self._changed.wait(wait_s)
        return False
