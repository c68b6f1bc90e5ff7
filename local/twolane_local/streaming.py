"""A response on its way from a function to its caller, piece by piece.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: The most of a streamed response: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_STREAM = 200 * 1024 * 1024
#: Above so many bytes that wait for a slow caller, the function has to wait.
_HIGH, _LOW = 1 << 20, 1 << 18


class Flow(Protocol):
    """What slows a sender down: a transport."""

    def pause_reading(self) -> None:
        """Take nothing for now."""

    def resume_reading(self) -> None:
        """Go on."""


class ResponseStream:
    """Between one environment, which writes, and one caller, who iterates."""

    def __init__(self) -> None:
        self.content_type = ""
        #: The error object of a response that broke off.
        self.error: bytes | None = None
        self._flow: Flow | None = None
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._changed = asyncio.Event()
        self.opened = asyncio.Event()

    def open(self, content_type: str, flow: Flow) -> None:
        """The response begins; ``flow`` is paused while the caller is slow."""
        self.content_type = content_type
        self._flow = flow
        self.opened.set()

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > _HIGH and not self._paused and self._flow is not None:
            self._paused = True
            self._flow.pause_reading()
        self._changed.set()

    def end(self, error: bytes | None) -> None:
        """Nothing more comes; with an error the response is not whole."""
        if not self._ended:
            self._ended = True
            self.error = error
            self._flow = None
            self._changed.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._paused and self._waiting < _LOW:
                    self._paused = False
                    if self._flow is not None:
                        self._flow.resume_reading()
                yield piece
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()
