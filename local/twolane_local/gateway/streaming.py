"""A function URL whose response leaves while the function still writes it (``RESPONSE_STREAM``).

https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError
from twolane_local.events import streamed
from twolane_local.streaming import ResponseStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from twolane_local.events.http import HttpResponse
    from twolane_local.invoke import Invocation, Streamer


class BrokenStreamError(LocalError):
    """The function failed after its response had begun; the client's connection is closed."""


class Streaming:
    """One request to one function; ``head`` first, then ``body``."""

    def __init__(self, streamer: Streamer, function: str, event: bytes, request_id: str) -> None:
        self._stream = ResponseStream()
        self._pieces = aiter(self._stream)
        self._running = asyncio.ensure_future(
            streamer.invoke_streaming(function, event, self._stream, request_id=request_id)
        )

    async def head(self) -> HttpResponse | Invocation:
        """The beginning of the response, or the whole of it where the runtime does not stream."""
        opened = asyncio.ensure_future(self._stream.opened.wait())
        try:
            await asyncio.wait((opened, self._running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if not self._stream.opened.is_set():
            return await self._running
        return await streamed.head(self._stream.content_type, self._pieces)

    async def body(self) -> AsyncIterator[bytes]:
        """What follows; raises ``BrokenStreamError`` where it does not end as it should."""
        async for piece in self._pieces:
            yield piece
        if self._stream.error is not None:
            raise BrokenStreamError("the function failed after its response had begun")
