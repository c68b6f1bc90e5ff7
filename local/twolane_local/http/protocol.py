"""Reads HTTP/1.1 requests off a connection. ``servers`` and ``runtime_api`` answer them.

``httptools`` parses. It refuses what RFC 9112 calls ambiguous.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

#: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestReader(asyncio.Protocol):
    """One client's connection. A subclass takes the head, the body and the end of each request."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        #: The fields behind a chunked body. They must not become headers: RFC 9110, 6.5.1.
        self.trailers: list[tuple[bytes, bytes]] = []
        self._in_head = True

    def head_read(self) -> None:
        """The request line and the headers are there."""

    def body_read(self, data: bytes) -> None:
        """A piece of the body is there."""

    def request_read(self) -> None:
        """The request is complete."""

    def unreadable(self) -> None:
        """The client sent something else. Where its next request would begin is unknown."""

    def awaits_go_ahead(self) -> bool:
        """Whether the client sends the body only after ``GO_AHEAD``, as libcurl does."""
        for name, value in self.headers:
            if len(name) == 6 and name.lower() == b"expect":
                return value.lower() == b"100-continue"
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports have no base class of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # there is no other protocol here: the request is answered as any other
        except httptools.HttpParserError:
            self.unreadable()

    # The callbacks of httptools.
    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.trailers = []
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        (self.headers if self._in_head else self.trailers).append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.head_read()

    def on_body(self, body: bytes) -> None:
        self.body_read(body)

    def on_message_complete(self) -> None:
        self.request_read()
