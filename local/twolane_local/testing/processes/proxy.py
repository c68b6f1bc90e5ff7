"""A TCP proxy that cuts connections: before a request gets through, or before its answer does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_CHUNK = 65_536


class Proxy:
    """Leads a loopback port to a server's::

    async with Proxy("127.0.0.1", 6379) as proxy:
        proxy.down = True              # nobody gets through
        proxy.cut_answers(b"EVALSHA")  # the next request with this in it loses its answer
        proxy.silence_after(b"EVALSHA")  # from such a request on nothing gets through, unsaid
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._down = False
        self._cut: tuple[bytes, int, Callable[[], object]] | None = None
        self._silent_after: bytes | None = None
        self._silent = False
        #: How often an answer was cut off, and how many connections were refused.
        self.cuts = self.refused = 0

    @property
    def port(self) -> int:
        if self._server is None:
            raise LocalError("the proxy is not open; use it in `async with`")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def down(self) -> bool:
        """While true, connections are closed at once, those that were open included.

        May be set from any thread.
        """
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        if down and self._loop is not None:
            self._loop.call_soon_threadsafe(self._close_all)

    def _close_all(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()

    def cut_answers(
        self, to: bytes, times: int = 1, told: Callable[[], object] = lambda: None
    ) -> None:
        """Hand on the next requests that hold ``to``, and close their connections unanswered."""
        self._cut = (to, times, told)

    def silence_after(self, request: bytes) -> None:
        """From the next request that holds these bytes on, be a route that is no more: connections
        stay open and new ones are taken, but nothing is handed on. ``b""`` begins with any request.
        """
        self._silent_after = request

    def speak(self) -> None:
        """Undo ``silence_after``: what comes from now on, on new connections, gets through."""
        self._silent_after, self._silent = None, False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._down = True
        self._close_all()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            self.refused += 1
            writer.transport.abort()
            return
        upstream, up = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, up}
        silent = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._requests(reader, up, writer, silent)),
            asyncio.ensure_future(_copy(upstream, writer, silent)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._open -= {writer, up}
        for each in (writer, up):
            each.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        up: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        silent: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._silent_after is not None and self._silent_after in data:
                self._silent = True
            if self._silent:
                silent.set()
                continue
            cut = self._cut
            if cut is not None and cut[0] in data:
                silent.set()
                self.cuts += 1
                self._cut = (cut[0], cut[1] - 1, cut[2]) if cut[1] > 1 else None
                cut[2]()
            up.write(data)
            await up.drain()
            if silent.is_set():
                await asyncio.sleep(0.05)  # the server has time to do what it was told
                writer.transport.abort()
                return


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            if silent.is_set():
                return
            writer.write(data)
            await writer.drain()
