"""One kept-alive HTTP/1.1 connection to one endpoint, and its responses.

``http.client`` reads a response through the e-mail parser, which is a third of the cost of an
enqueue beside Celery itself; SQS answers with a dozen plain header lines and a length.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import os
import select
import socket
import time
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from twolane.environment import snapshot

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from twolane.publish.target import Endpoint

#: After this long unused, a connection is opened anew: whoever sits between may have forgotten it.
IDLE_S = 50.0


class Wire:
    """Not for use by two threads at once; kombu gives each publisher a connection of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        ca_bundle: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._ca_bundle = ca_bundle
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self._reader: BinaryIO | None = None
        self._last_used = 0.0
        self._pid = 0
        snapshot.holds(self)

    def post(
        self, headers: Mapping[str, str], body: bytes, *, timeout_s: float, path: str = "/"
    ) -> Response:
        """One POST. Raises ``OSError``: nobody there, time out, or a broken answer."""
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"content-length: {len(body)}"
        request = f"POST {path} HTTP/1.1\r\n{head}{length}\r\n\r\n".encode() + body
        sock, reader = self._connected(timeout_s)
        try:
            sock.sendall(request)
            response = read(reader)
        except BaseException:
            # The state of the exchange is unknown: the next one starts on a fresh connection.
            self.close()
            raise
        self._last_used = self._monotonic()
        if not response.reusable:
            self.close()
        return response

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    let_go = close

    def _connected(self, timeout_s: float) -> tuple[socket.socket, BinaryIO]:
        if self._socket is not None and self._reader is not None and self._usable(self._socket):
            self._socket.settimeout(timeout_s)
            return self._socket, self._reader
        self.close()
        self._socket, self._pid = self._open(timeout_s), os.getpid()
        self._reader = self._socket.makefile("rb")
        return self._socket, self._reader

    def _usable(self, sock: socket.socket) -> bool:
        """A frozen environment wakes up with sockets that the other side closed meanwhile.

        An idle connection has nothing to read; one that is readable has been closed.
        """
        # A forked process has the descriptor too, but the conversation is its parent's.
        if self._monotonic() - self._last_used > IDLE_S or self._pid != os.getpid():
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)

    def _open(self, timeout_s: float) -> socket.socket:
        endpoint = self._endpoint
        sock = socket.create_connection((endpoint.name, endpoint.port), timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not endpoint.secure:
            return sock
        try:
            return _tls(self._ca_bundle).wrap_socket(sock, server_hostname=endpoint.name)
        except BaseException:
            sock.close()
            raise


@cache
def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """One for all connections: reading the certificates takes longer than a handshake."""
    import ssl

    return ssl.create_default_context(cafile=ca_bundle)


_MAX_LINE = 65536
_MAX_HEADERS = 100


class BrokenResponseError(ConnectionError):
    """The server hung up, or did not speak HTTP/1.1; whether it took the request is unknown."""


class Response(NamedTuple):
    """A whole answer; ``reusable``: whether another request may follow on the connection."""

    status: int
    body: bytes
    reusable: bool


def read(reader: BinaryIO) -> Response:
    """The next final response. Raises ``BrokenResponseError``, or what the reader raises."""
    version, status = _status(reader)
    headers = _headers(reader)
    while 100 <= status < 200:
        version, status = _status(reader)
        headers = _headers(reader)
    reusable = version != b"HTTP/1.0" and b"close" not in headers.get(b"connection", b"").lower()
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return Response(status, _chunks(reader), reusable)
    if b"content-length" in headers:
        return Response(status, _exactly(reader, _number(headers[b"content-length"], 10)), reusable)
    return Response(status, reader.read(), reusable=False)


def _status(reader: BinaryIO) -> tuple[bytes, int]:
    line = reader.readline(_MAX_LINE)
    if not line:
        raise BrokenResponseError("the server closed the connection without an answer")
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise BrokenResponseError(f"the server answered {line[:80]!r}, which is not HTTP/1.1")
    return version, int(rest[:3])


def _headers(reader: BinaryIO) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for _ in range(_MAX_HEADERS):
        line = reader.readline(_MAX_LINE)
        if line in {b"\r\n", b"\n"}:
            return headers
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    raise BrokenResponseError(f"the server's answer has no end after {_MAX_HEADERS} header lines")


def _chunks(reader: BinaryIO) -> bytes:
    parts = []
    while size := _number(reader.readline(_MAX_LINE).partition(b";")[0].strip(), 16):
        parts.append(_exactly(reader, size))
        reader.readline(_MAX_LINE)
    _headers(reader)
    return b"".join(parts)


def _exactly(reader: BinaryIO, size: int) -> bytes:
    body = reader.read(size)
    if len(body) < size:
        raise BrokenResponseError(f"the answer ended after {len(body)} of {size} bytes")
    return body


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise BrokenResponseError(f"the server gave {text[:80]!r} as a length")
    return number
