"""Keeps the event loop awake while an answer is likely to come at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: A core that sleeps takes longer to wake than many a handler to run. Longer than this it is not
#: worth a core's while: what answers later finds the loop asleep, as it would be without us.
FOR_S = 0.001


class Vigil:
    """One for many requests: the loop turns, and looks at its sockets, until the last one's time
    is over. It costs each request at most that much of one core.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._soon = loop.call_soon
        self._now = now
        self._until = 0.0
        self._awake = False

    def keep(self) -> None:
        """Stay awake from now on, for a while."""
        self._until = self._now() + FOR_S
        if not self._awake:
            self._awake = True
            self._soon(self._turn)

    def _turn(self) -> None:
        if self._now() < self._until:
            self._soon(self._turn)
        else:
            self._awake = False
