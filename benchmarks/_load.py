"""Asks one URL again and again over kept connections: ``_load.py URL CONNECTIONS REQUESTS [BODY]``.

A process of its own, so that it takes no time from whoever answers. Prints one line of JSON:
requests a second, and the 50th and 99th percentile in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

import uvloop


class Connection(asyncio.Protocol):
    """One request at a time; the next when the last is answered whole."""

    def __init__(self, request: bytes, left: list[int], times: list[float]) -> None:
        self._request = request
        self._left = left
        self._times = times
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._left[0] <= 0:
            self._transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self._left[0] -= 1
        self._began = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(None, 1)[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(SystemExit((head + found + body).decode(errors="replace")))
            return
        self._times.append(time.perf_counter() - self._began)
        self._buffer = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("closed"))


async def main(url: str, connections: int, requests: int, body: str = "") -> None:
    parts = urlsplit(url)
    method = "POST" if body else "GET"
    request = (
        f"{method} {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: */*\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    left, times = [requests], list[float]()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: Connection(request, left, times), parts.hostname, parts.port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    took = time.perf_counter() - began
    times.sort()
    print(
        json.dumps(
            {
                "rps": len(times) / took,
                "p50": times[len(times) // 2] * 1000,
                "p99": times[int(len(times) * 0.99)] * 1000,
                "took": took,
            }
        )
    )


uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
