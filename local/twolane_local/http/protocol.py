"""uvicorn's protocol, with the head of a response sent together with the first part of its body.

Two segments would wake the client twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

_HEAD = b"HTTP/1.1 "


class Corked:
    """A transport that keeps the head of a response until something follows, or the loop turns."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._soon = loop.call_soon
        self._kept = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, after what was kept; a head is kept itself."""
        if not self._kept and data.startswith(_HEAD):
            self._kept = data
            self._soon(self._flush)
            return
        kept, self._kept = self._kept, b""
        self._transport.write(kept + data)

    def _flush(self) -> None:
        if self._kept:
            self.write(b"")

    def close(self) -> None:
        self._flush()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """For ``uvicorn.Config(http=…)``."""

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(cast("asyncio.Transport", Corked(transport, self.loop)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer, which comes behind a chunked body, must not become one."""
        if self._in_head:
            super().on_header(name, value)
