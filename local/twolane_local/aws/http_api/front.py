"""The HTTP server of an API, without ASGI in between: each request passes it, so it does little.

``httptools`` reads, as it does for uvicorn, which serves everything else here. What RFC 9112 calls
ambiguous is refused; a connection answers its requests in their order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from twolane_local.aws.events.http import json_response
from twolane_local.aws.http_api.answers import head_of
from twolane_local.aws.http_api.requests import Received
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from twolane_local.aws.events.http import HttpResponse

    Reply = Callable[[HttpResponse], Awaitable[None]]


#: A core that sleeps takes longer to wake than many a handler to run. Longer than this it is not
#: worth a core's while: what answers later finds the loop asleep, as it would be without us.
FOR_S = 0.001


class Vigil:
    """One for many requests: the loop turns, and looks at its sockets, until the last one's time
    is over. It costs each request at most that much of one core.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._soon = loop.call_soon
        self._now = now
        self._until = 0.0
        self._awake = False

    def keep(self) -> None:
        """Stay awake from now on, for a while."""
        self._until = self._now() + FOR_S
        if not self._awake:
            self._awake = True
            self._soon(self._turn)

    def _turn(self) -> None:
        if self._now() < self._until:
            self._soon(self._turn)
        else:
            self._awake = False


#: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
KEEP_ALIVE_S = 75.0
#: What is under way when the server stops has this long.
GRACE_S = 1.0
#: So many may wait behind the one that is answered before the connection is read no further.
PIPELINE = 16
_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n"
    b"connection: close\r\n\r\nBad Request"
)


class Serves(Protocol):
    """What is behind the server: the gateway."""

    @property
    def max_body(self) -> int:
        """The largest body that it takes, in bytes; above it ``Received.body`` is ``None``."""

    async def serve(self, received: Received, reply: Reply) -> None:
        """Give the response of one request to ``reply``."""


class Connection(asyncio.Protocol):
    """One client. A request is read whole before it is served."""

    def __init__(self, gateway: Serves, connections: set[Connection], vigil: Vigil) -> None:
        self._gateway = gateway
        self._vigil = vigil
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Received | None] = deque()  # None: what cannot be read
        self._serving: asyncio.Task[None] | None = None
        self._closing = self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._idle_since = 0.0  # the loop's time
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports have no base class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._client = transport.get_extra_info("peername")[0]
        self._port = transport.get_extra_info("sockname")[1]
        self._connections.add(self)
        self._rest()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._closing = True
        self._writable.set()
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # nothing to upgrade to: the request is answered, and is the connection's last
        except httptools.HttpParserError:
            self._closing = True  # no telling where the next request would begin
            self._take(None)

    # The callbacks of httptools.
    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer, which comes behind a chunked body, must not become a header.
        if self._in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if any(
            name.lower() == b"expect" and value.lower() == b"100-continue"
            for name, value in self._headers
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= self._gateway.max_body:
            self._body.append(body)
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        url = httptools.parse_url(self._url)
        parser = self._parser
        keep = parser.should_keep_alive() and not parser.should_upgrade()
        self._take(
            Received(
                method=parser.get_method().decode("ascii"),
                raw_path=url.path or b"/",
                query=url.query or b"",
                headers=self._headers,
                body=b"".join(self._body) if self._size <= self._gateway.max_body else None,
                client=self._client,
                port=self._port,
                version=parser.get_http_version(),
                keep_alive=keep,
            )
        )

    # What follows.
    def _take(self, received: Received | None) -> None:
        self._waiting.append(received)
        if self._serving is None:
            self._vigil.keep()
            self._serving = self._loop.create_task(self._serve())
        elif len(self._waiting) >= PIPELINE:
            self._paused = True
            self._transport.pause_reading()

    async def _serve(self) -> None:
        """Answer what waits, one after the other."""
        while self._waiting and not self._transport.is_closing():
            if not await self._answered(self._waiting.popleft()):
                self._closing = True
                self._transport.close()
        self._serving = None
        if self._closing or self._transport.is_closing():
            self._transport.close()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._rest()

    async def _answered(self, received: Received | None) -> bool:
        """Answer one request; tells whether another may follow on this connection."""
        if received is None:
            self._transport.write(_BAD_REQUEST)
            return False
        answering = Answering(self._transport, self._writable, received)
        try:
            await self._gateway.serve(received, answering.reply)
        except Exception as error:  # noqa: BLE001 - told, and the client has an answer
            if answering.begun and isinstance(error, LocalError):
                return False  # a stream that broke off, as the journal tells: so must this
            self._loop.call_exception_handler(
                {"message": f"{received.method} could not be answered", "exception": error}
            )
            if answering.begun:
                return False
            await answering.reply(json_response(500, {"message": "Internal Server Error"}))
        return received.keep_alive

    def _rest(self) -> None:
        """Nothing is under way: the connection is kept for a while. One timer serves many."""
        self._idle_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(KEEP_ALIVE_S, self._look)

    def _look(self) -> None:
        self._timer = None
        due = self._idle_since + KEEP_ALIVE_S
        if self._serving is not None:
            return
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._transport.close()

    def end(self) -> asyncio.Task[None] | None:
        """Answer what is under way and no more; gives that, where there is any."""
        self._closing = True
        if self._serving is None:
            self._transport.close()
        return self._serving

    def abort(self) -> None:
        """Close at once."""
        if self._serving is not None:
            self._serving.cancel()
        self._transport.abort()


class Answering:
    """Writes the response to one request."""

    def __init__(
        self, transport: asyncio.Transport, writable: asyncio.Event, received: Received
    ) -> None:
        self._transport, self._writable, self._received = transport, writable, received
        self.begun = False

    async def reply(self, response: HttpResponse) -> None:
        """Write it; a stream to its end, even where the client has gone."""
        self.begun = True
        received, stream = self._received, response.stream
        chunked = stream is not None and received.version == "1.1"
        if stream is not None and not chunked:
            received.keep_alive = False  # its end is the connection's
        head, body = head_of(response, received, chunked=chunked)
        if not self._transport.is_closing():
            self._transport.write(head + (_chunk(body) if chunked and body else body))
        if stream is None:
            return
        async for piece in stream:
            await self._writable.wait()
            if piece and received.method != "HEAD" and not self._transport.is_closing():
                self._transport.write(_chunk(piece) if chunked else piece)
        if chunked and received.method != "HEAD" and not self._transport.is_closing():
            self._transport.write(b"0\r\n\r\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Front:
    """One gateway on one socket."""

    def __init__(self, gateway: Serves, listener: socket.socket) -> None:
        self.port = int(listener.getsockname()[1])
        self._gateway = gateway
        self._listener = listener
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Returns once it accepts connections."""
        loop = asyncio.get_running_loop()
        vigil = Vigil(loop)
        self._server = await loop.create_server(
            lambda: Connection(self._gateway, self._connections, vigil), sock=self._listener
        )

    async def stop(self) -> None:
        """Finish what is under way, for a second at most."""
        if self._server is not None:
            self._server.close()
        busy = [task for each in tuple(self._connections) if (task := each.end()) is not None]
        if busy:
            await asyncio.wait(busy, timeout=GRACE_S)
        for connection in tuple(self._connections):
            connection.abort()
        self._listener.close()
