"""One kept-alive HTTP/1.1 connection to one endpoint."""

from __future__ import annotations

import os
import select
import socket
import time
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

from twolane import snapshot
from twolane.publish.response import Response, read

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
