"""When an idle environment is frozen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: How long an environment may idle before it is frozen. Stopping a process and letting it run again
#: takes longer than many a handler: one that is asked again at once is left running.
FREEZE_AFTER_S = 0.02


class Freezer:
    """Calls ``freeze`` once its environment has idled; one timer serves many invocations."""

    def __init__(self, freeze: Callable[[], None]) -> None:
        self._freeze = freeze
        self._loop = asyncio.get_running_loop()
        self._idle_since: float | None = None  # the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self.frozen = False

    def idle(self) -> None:
        """It has nothing to do from now on."""
        self._idle_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(FREEZE_AFTER_S, self._look)

    def busy(self) -> bool:
        """It has; tells whether it was frozen."""
        self._idle_since = None
        was, self.frozen = self.frozen, False
        return was

    def _look(self) -> None:
        self._timer = None
        if self._idle_since is None:
            return
        due = self._idle_since + FREEZE_AFTER_S
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._idle_since = None
            self.frozen = True
            self._freeze()

    def close(self) -> None:
        """It will freeze nothing any more."""
        self._idle_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
