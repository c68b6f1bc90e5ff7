"""Says what a start waits for, where that takes longer than one would wait without a word."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

FIRST_S, AGAIN_S, _LOOK_S = 2.0, 10.0, 0.25
_MOST = 3


class Waiting:
    """``say`` gets a line after two seconds, and then every ten.

    It waits in real time: under a clock that is moved, a start takes as long as it takes.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._what = ""
        self._more: Callable[[], Awaitable[list[str]]] | None = None
        self._since = self._due = 0.0

    def on(self, what: str, more: Callable[[], Awaitable[list[str]]] | None = None) -> None:
        """From now on for this; ``more`` says of which of them, and where they are."""
        self._what, self._more = what, more
        self._since = asyncio.get_running_loop().time()
        self._due = self._since + FIRST_S

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """While the block runs."""
        telling = asyncio.ensure_future(self._tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            if loop.time() < self._due:
                continue
            self._due = loop.time() + AGAIN_S
            what, passed = self._what, loop.time() - self._since
            names = await self._more() if self._more is not None else []
            if what != self._what:  # it went on while that was asked
                continue
            rest = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
            of = f": {', '.join(names[:_MOST])}{rest}" if names else ""
            self._say(f"waiting for {what} ({passed:.0f} s so far){of}")
