"""The memory limit of a running invocation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.environments import report

if TYPE_CHECKING:
    from collections.abc import Callable

#: How often the memory of a running invocation is looked at.
_EVERY_S = 0.1


class MemoryLimit:
    """Calls ``exceeded`` when a process at work has more resident memory than its limit."""

    def __init__(self, limit_mb: int, exceeded: Callable[[], None]) -> None:
        self._limit_mb = limit_mb
        self._exceeded = exceeded
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pid: int | None = None
        self._since = 0.0  # the loop's time

    def watch(self, pid: int | None) -> None:
        """Look at this process from now on, if its work takes that long; at none with ``None``."""
        self._pid = pid
        self._since = self._loop.time()
        if pid is not None and self._timer is None:
            self._timer = self._loop.call_later(_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._pid is None:
            return
        due = self._since + _EVERY_S
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        elif report.memory_mb(self._pid) > self._limit_mb:
            self._exceeded()
        else:
            self._timer = self._loop.call_later(_EVERY_S, self._look)
