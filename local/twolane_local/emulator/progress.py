"""Reports what the start is waiting for, if it takes long."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_FIRST_S, _AGAIN_S, _CHECK_S = 2.0, 10.0, 0.25
_MAX_NAMES = 3


class StartProgress:
    """Writes a line to ``log`` after two real seconds, then every ten."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._what = ""
        self._details: Callable[[], Awaitable[list[str]]] | None = None
        self._since = self._due = 0.0

    def waiting_for(
        self, what: str, details: Callable[[], Awaitable[list[str]]] | None = None
    ) -> None:
        """Set what the start now waits for; ``details`` returns the parts that are not ready."""
        self._what, self._details = what, details
        self._since = asyncio.get_running_loop().time()
        self._due = self._since + _FIRST_S

    @asynccontextmanager
    async def reported(self) -> AsyncIterator[None]:
        """Report while the block runs."""
        reporting = asyncio.ensure_future(self._report())
        try:
            yield
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)

    async def _report(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_S)
            if loop.time() < self._due:
                continue
            self._due = loop.time() + _AGAIN_S
            what, passed = self._what, loop.time() - self._since
            names = await self._details() if self._details is not None else []
            if what != self._what:  # the start has moved on meanwhile
                continue
            rest = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            of = f": {', '.join(names[:_MAX_NAMES])}{rest}" if names else ""
            self._log(f"waiting for {what} ({passed:.0f} s so far){of}")
