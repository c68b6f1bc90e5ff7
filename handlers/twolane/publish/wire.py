"""One kept-alive HTTP connection to one endpoint, over ``http.client``."""

from __future__ import annotations

import http.client
import select
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        self._connection: http.client.HTTPConnection | None = None
        self._last_used = 0.0

    def post(
        self, headers: Mapping[str, str], body: bytes, *, timeout_s: float
    ) -> tuple[int, bytes]:
        """POST to ``/``; returns status and body. Raises ``OSError`` or ``HTTPException``."""
        connection = self._connected(timeout_s)
        try:
            connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.status, response.read()
        except BaseException:
            # The state of the exchange is unknown: the next one starts on a fresh connection.
            self.close()
            raise
        self._last_used = self._monotonic()
        if response.will_close:
            self.close()
        return answer

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is not None and self._usable(connection):
            connection.timeout = timeout_s
            connection.sock.settimeout(timeout_s)
            return connection
        self.close()
        connection = self._open(timeout_s)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        return connection

    def _usable(self, connection: http.client.HTTPConnection) -> bool:
        """A frozen environment wakes up with sockets that the other side closed meanwhile.

        An idle connection has nothing to read; one that is readable has been closed.
        """
        if connection.sock is None or self._monotonic() - self._last_used > IDLE_S:
            return False
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return not poll.poll(0)

    def _open(self, timeout_s: float) -> http.client.HTTPConnection:
        endpoint = self._endpoint
        if not endpoint.secure:
            return http.client.HTTPConnection(endpoint.name, endpoint.port, timeout=timeout_s)
        import ssl

        context = ssl.create_default_context(cafile=self._ca_bundle)
        return http.client.HTTPSConnection(
            endpoint.name, endpoint.port, timeout=timeout_s, context=context
        )
