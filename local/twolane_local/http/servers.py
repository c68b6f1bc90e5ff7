"""The HTTP server of every port that speaks ASGI: the APIs, AWS's endpoint, the console.

Each request to an API passes it, so it does little. With uvicorn in its place, and in that of the
Runtime API, a request takes the emulator and its environment 11 % more processor time.
``httptools`` parses requests. It refuses what RFC 9112 calls ambiguous. Each port has a ``Door``.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable
from urllib.parse import unquote

import httptools

from twolane_local.errors import LocalError, PortInUseError
from twolane_local.http.access import Door, caller_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence

    Message = MutableMapping[str, Any]
    Answer = Callable[["Exchange"], Awaitable[None]]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


#: The largest head of a request, and the largest trailer, in bytes.
MAX_HEAD = 64 * 1024
_TOO_LARGE = f"it has more than {MAX_HEAD} bytes"
#: The longest that the loop turns for one request: what takes longer finds it asleep.
BUSY_WAIT_S = 0.001
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
        self._in_head, self._head_ended = True, False
        #: The bytes of a head that is not complete, and those of the trailers.
        self._waiting_head = self._trailed = 0

    def head_read(self) -> None:
        """The request line and the headers are there."""

    def body_read(self, data: bytes) -> None:
        """A piece of the body is there."""

    def request_read(self) -> None:
        """The request is complete."""

    def unreadable(self) -> None:
        """The client sent something else. Where its next request would begin is unknown."""

    def head_too_large(self) -> None:
        """The client sends a head above ``MAX_HEAD``. What it sends next is not read."""

    def awaits_go_ahead(self) -> bool:
        """Whether the client sends the body only after ``GO_AHEAD``, as libcurl does."""
        for name, value in self.headers:
            if len(name) == 6 and name.lower() == b"expect":
                return value.lower() == b"100-continue"
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: not every loop's transports have a base class of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._head_ended = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # there is no other protocol here: the request is answered as any other
        except httptools.HttpParserError:
            self.unreadable()
            return
        if self._in_head:
            # Of data that also ended a head, how much is of the next one is unknown.
            self._waiting_head = 1 if self._head_ended else self._waiting_head + len(data)
            if self._waiting_head > MAX_HEAD:
                self.head_too_large()

    # The callbacks of httptools.
    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.trailers = []
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self.headers.append((name, value))
            return
        self.trailers.append((name, value))
        self._trailed += len(name) + len(value)
        if self._trailed > MAX_HEAD:
            raise ValueError("the trailers are too large")  # the parser makes an error of it

    def on_headers_complete(self) -> None:
        self._in_head, self._head_ended = False, True
        self._waiting_head = self._trailed = 0
        self.head_read()

    def on_body(self, body: bytes) -> None:
        self.body_read(body)

    def on_message_complete(self) -> None:
        self.request_read()


HOST = "127.0.0.1"
BACKLOG = 2048
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
KEEP_ALIVE_S = 75.0
#: What is under way when the server stops has this long.
GRACE_S = 1.0
#: A client that has begun a request has this long to end it, and longer by a second for each
#: ``SLOWEST`` bytes of its body.
PATIENCE_S = 30.0
SLOWEST = 16 * 1024
#: So many requests may wait behind the one that is answered before the connection is read no
#: further, and so many bytes of a body before the application asks for them.
PIPELINE = 16
HELD = 1 << 18
JSON = b"application/json"
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


def bind(port: int, flag: str) -> socket.socket:
    """A listening socket on loopback, 0: any free port. Raises ``PortInUseError`` with ``flag``."""
    # asyncio sends without delay only on sockets that say that they are TCP's.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} is in use; stop what holds it (`ss -ltnp 'sport = :{port}'`), or "
                f"choose another with {flag}"
            ) from error
        if error.errno == errno.EACCES:
            raise PortInUseError(
                f"port {port} needs more rights than this process has; choose one above 1023 "
                f"with {flag}"
            ) from error
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """The address that a listening socket answers at."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


@runtime_checkable
class Answers(Protocol):
    """What is spared ASGI, which costs the emulator 4 % of what it does for a request."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""


class Exchange:
    """One request and its response. ``scope``, ``receive`` and ``send`` are ASGI's."""

    def __init__(
        self,
        connection: Connection,
        *,
        method: str = "",
        raw_path: bytes = b"",
        query: bytes = b"",
        version: str = "1.1",
        headers: Sequence[tuple[bytes, bytes]] = (),
        keep_alive: bool = False,
    ) -> None:
        self.method, self.raw_path, self.query, self.version = method, raw_path, query, version
        #: With their names as the client wrote them.
        self.headers = headers
        self.client, self.server = connection.client, connection.server
        #: Whether the client may send another request on the same connection.
        self.keep_alive = keep_alive
        self.go_ahead = False
        #: The whole request is there; the response has begun; the response is complete.
        self.whole = self.begun = self.done = False
        #: The client went, or sent something else, in the middle of the request.
        self.broken = False
        #: What the server answers to that.
        self.failure = 400, ""
        #: What the server answers in the application's place.
        self.refused: tuple[int, str] | None = None
        #: The size of the request line and of the headers' values, in bytes.
        self.head_size = 0
        #: How many bytes of the body wait for the application.
        self.held = 0
        self._connection = connection
        self._pieces: list[bytes] = []
        self._given = False
        self._changed: asyncio.Event | None = None
        self._chunked = self._bare = False
        self._left: int | None = None  # of the announced length

    def scope(self) -> Scope:
        path = self.raw_path.decode("latin-1")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self.version,
            "method": self.method,
            "scheme": "http",
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": self.raw_path,
            "query_string": self.query,
            "headers": [(name.lower(), value) for name, value in self.headers],
            "client": self.client,
            "server": self.server,
        }

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises what ``read_body`` does."""
        if not self.whole or self.held > limit:
            return await read_body(self.receive, limit)
        body = b"".join(self._pieces)
        self._given = True
        self._drop()
        return body

    def respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response, whose ``content-length`` is among the headers if it has one."""
        head = self._head(status, headers)
        self.begun = self.done = True
        self._connection.write(head if self._bare else head + body)
        self._drop()
        self.wake()

    def feed(self, data: bytes) -> None:
        """Keep a piece of the body until the application asks for it."""
        self._pieces.append(data)
        self.held += len(data)
        self.wake()

    def wake(self) -> None:
        """The application may wait for what has happened."""
        if self._changed is not None:
            self._changed.set()

    async def receive(self) -> Message:
        if self.go_ahead:
            self.go_ahead = False
            self._connection.write(GO_AHEAD)
        while True:
            if self.broken or self.done or self._connection.gone:
                return {"type": "http.disconnect"}
            if self._pieces or (self.whole and not self._given):
                break
            if self._changed is None:
                self._changed = asyncio.Event()
            self._changed.clear()
            await self._changed.wait()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._given = self.whole
        self._drop()
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    async def send(self, message: Message) -> None:
        """ASGI's ``send``. It waits for a slow client, and drops what no client is there for."""
        connection = self._connection
        if not connection.writable.is_set():
            await connection.writable.wait()
        if self.broken and not self.begun:
            return  # the server answers that itself
        if message["type"] == "http.response.start" and not self.begun:
            head = self._head(message["status"], message.get("headers", ()))
            self.begun = True
            connection.keep(head)
        elif message["type"] == "http.response.body" and self.begun and not self.done:
            self._body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']!r} is not what a response goes on with")

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        lines = [b"HTTP/1.1 %d %s" % (status, _PHRASES.get(status, b""))]
        self._left = None
        for name, value in headers:
            match name.lower():
                case b"content-length":
                    self._left = int(value)
                case b"connection":
                    self.keep_alive = self.keep_alive and b"close" not in value.lower()
                    continue
                case b"transfer-encoding":
                    continue
            lines.append(b"%s: %s" % (name, value))
        lines += self._framing(status)
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise ValueError("a header of the response has a line end in its name or value")
        return head

    def _framing(self, status: int) -> list[bytes]:
        """Decide where the body ends and whether the connection stays; the headers that say so."""
        said: list[bytes] = []
        # RFC 9112, 6.3: these have no body, whatever their headers say.
        self._bare = self.method == "HEAD" or status in {204, 304}
        if self._left is None and not self._bare:
            if self.version == "1.1":
                self._chunked = True
                said.append(b"transfer-encoding: chunked")
            else:
                self.keep_alive = False  # its end is the connection's
        if self.go_ahead and not self.whole:
            self.keep_alive = False  # nobody knows whether the body will come: RFC 9110, 10.1.1
        if not self.keep_alive:
            said.append(b"connection: close")
        elif self.version == "1.0":
            said.append(b"connection: keep-alive")
        return said

    def _body(self, data: bytes, *, more: bool) -> None:
        if not self._bare:
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0 or (self._left and not more):
                    raise RuntimeError("the response has another length than its header says")
            elif self._chunked:
                data = (b"%x\r\n%s\r\n" % (len(data), data)) if data else b""
                data += b"" if more else b"0\r\n\r\n"
            if data:
                self._connection.write(data)
        if not more:
            self.done = True
            self._connection.flush()
            self._drop()
            self.wake()

    def _drop(self) -> None:
        """What of the body waited does so no more."""
        if self._pieces:
            self._pieces.clear()
            self.held = 0
            self._connection.regulate()

    async def fail(self, status: int, why: str = "") -> None:
        """Answer in the application's place; nothing follows on this connection."""
        text, kind = _PHRASES[status], b"text/plain"
        if why:
            text, kind = json.dumps({"message": f"{text.decode()}: {why}"}).encode(), JSON
        headers = ((b"content-type", kind), (b"content-length", b"%d" % len(text)))
        self.keep_alive = self.broken = False
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": text})


class Connection(RequestReader):
    """One client. Its requests are answered one after the other, in their order."""

    def __init__(
        self, answer: Answer, connections: set[Connection], door: Door, busy_wait: BusyWait
    ) -> None:
        super().__init__()
        self._busy_wait = busy_wait
        self._application = answer
        self._connections = connections
        self._door = door
        self._half: HalfRequest | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Exchange] = deque()
        self._reading: Exchange | None = None  # the one whose request is not complete
        self._current: Exchange | None = None  # the one that is being answered
        self._serving: asyncio.Task[None] | None = None
        self._last = self._paused = False
        self._kept = b""
        self._idle_since = 0.0  # the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self.gone = False
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client: tuple[str, int] = transport.get_extra_info("peername")[:2]
        self.server: tuple[str, int] = transport.get_extra_info("sockname")[:2]
        self._connections.add(self)
        self._rest()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._last = self.gone = True
        self.writable.set()
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._half is not None:
            self._half.close()
        if self._current is not None:
            self._current.wake()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def write(self, data: bytes) -> None:
        """Send it, if anybody is there."""
        kept, self._kept = self._kept, b""
        if not self.transport.is_closing():
            self.transport.write(kept + data)

    def keep(self, head: bytes) -> None:
        """Send it with what follows, or when the loop turns: two segments wake the client twice."""
        self._kept = head
        self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send the head that was kept."""
        if self._kept:
            self.write(b"")

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        super().data_received(data)
        if self._waiting_head or self._reading is not None:
            if self._half is None:
                self._half = HalfRequest(self._too_slow)
            self._half.goes_on(len(data))

    # What is read.
    def head_read(self) -> None:
        parser = self.parser
        method = parser.get_method().decode("ascii")
        size = len(method) + len(self.url) + len("  HTTP/1.1")
        size += sum([len(value) for _, value in self.headers])
        # With nothing to upgrade to, what follows an upgrade might be of another protocol.
        keep = parser.should_keep_alive() and not parser.should_upgrade()
        url = httptools.parse_url(self.url if size <= MAX_HEAD else b"/")
        exchange = Exchange(
            self,
            method=method,
            raw_path=url.path or b"/",
            query=url.query or b"",
            version=parser.get_http_version(),
            headers=self.headers,
            keep_alive=keep,
        )
        exchange.head_size = size
        exchange.refused = self._refusal(method, size)
        self._take(exchange)

    def _refusal(self, method: str, size: int) -> tuple[int, str] | None:
        caller = caller_of(self.headers)
        if caller is None:
            return 400, "a request has exactly one Host header"
        why = self._door.refusal(method, caller)
        if why is not None:
            return 403, why
        return (431, _TOO_LARGE) if size > MAX_HEAD else None

    def body_read(self, data: bytes) -> None:
        if self._reading is not None and not self._reading.done:
            self._reading.feed(data)
            self.regulate()

    def request_read(self) -> None:
        if self._reading is not None:
            self._reading.whole = True
            self._reading.wake()
            self._reading = None
        if self._half is not None:
            self._half.ends()

    def unreadable(self) -> None:
        self._break_off(400, "")

    def head_too_large(self) -> None:
        self._break_off(431, _TOO_LARGE)

    def _too_slow(self) -> None:
        if self._paused:  # the application, or those before it, are slow
            if self._half is not None:
                self._half.goes_on(0)
            return
        self._waiting_head = 0
        self._break_off(408, f"it did not come to its end within {PATIENCE_S:g} s")

    def _break_off(self, status: int, why: str) -> None:
        """Answer that in its turn, and read no more."""
        if self._last:
            return
        self._last = True
        if self._reading is None:
            self._take(Exchange(self))
        if self._reading is not None:
            self._reading.broken = True
            self._reading.failure = status, why
            self._reading.wake()
        if self._serving is None:  # it was answered before it was complete
            self.transport.close()

    def _take(self, exchange: Exchange) -> None:
        exchange.go_ahead = self.awaits_go_ahead()
        self._reading = exchange
        self._waiting.append(exchange)
        if self._serving is None:
            self._serving = self._loop.create_task(self._serve())
        else:
            self.regulate()

    def regulate(self) -> None:
        """Read no further while much waits to be answered, and go on when it does no more."""
        held = self._reading.held if self._reading is not None else 0
        much = held > HELD or len(self._waiting) >= PIPELINE
        if much != self._paused and not self.transport.is_closing():
            self._paused = much
            (self.transport.pause_reading if much else self.transport.resume_reading)()

    # What follows.
    async def _serve(self) -> None:
        """Answer what waits, one after the other."""
        while self._waiting and not self.transport.is_closing():
            self._current = self._waiting.popleft()
            self._busy_wait.begin()
            try:
                await self._answer(self._current)
            finally:
                self._busy_wait.end()
                kept = self._current.done and self._current.keep_alive
                self._current = None
            if not kept:
                self._last = True
                self.flush()
                self.transport.close()
        self._serving = None
        if self._last or self.transport.is_closing():
            self.transport.close()
            return
        self.regulate()
        self._rest()

    async def _answer(self, exchange: Exchange) -> None:
        try:
            if exchange.refused is not None:
                await exchange.fail(*exchange.refused)
            elif exchange.method:
                await self._application(exchange)
            if not exchange.begun and not exchange.broken and not self.gone:
                raise RuntimeError("the application ended without a response")
        except Exception as error:  # noqa: BLE001 - reported, and the client has an answer
            # A stream that broke off is in the journal already.
            if not (exchange.begun and isinstance(error, LocalError)):
                self._loop.call_exception_handler(
                    {"message": f"{exchange.method} could not be answered", "exception": error}
                )
            if not exchange.begun:
                await exchange.fail(500)
        if exchange.broken and not exchange.begun and not self.gone:
            await exchange.fail(*exchange.failure)

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
            self.transport.close()

    def end(self) -> asyncio.Task[None] | None:
        """Answer what is under way and no more. Returns its task, where there is any."""
        self._last = True
        if self._serving is None:
            self.transport.close()
        return self._serving

    def abort(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
        self.transport.abort()


class HalfRequest:
    """The time limit of a request that has begun. One timer serves many."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None  # the loop's time
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None

    def goes_on(self, size: int) -> None:
        """So many bytes of it came; the first of them begin it. With none, it begins anew."""
        if self._began is None or not size:
            self._began, self._received = self._loop.time(), 0
        self._received += size
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE_S, self._look)

    def ends(self) -> None:
        """It is complete."""
        self._began = None

    def _look(self) -> None:
        self._timer = None
        if self._began is None:
            return
        due = self._began + PATIENCE_S + self._received / SLOWEST
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._over()

    def close(self) -> None:
        """Nothing more comes."""
        if self._timer is not None:
            self._timer.cancel()


def as_answer(app: Asgi) -> Answer:
    """An ASGI app, as the server calls it."""

    async def answer(exchange: Exchange) -> None:
        await app(exchange.scope(), exchange.receive, exchange.send)

    return answer


class BusyWait:
    """Keeps the event loop awake while a single request is under way, for a millisecond at most.

    A core that sleeps takes longer to wake than many a handler to run. With one connection, 11 to
    20 % more requests are answered in a second ("in-process" and "isolated" in
    ``benchmarks/emulator.py``). Of several requests, each keeps the loop awake for the others.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._soon = loop.call_soon
        self._now = now
        self._until = 0.0
        self._under_way = 0
        self._turning = False

    def begin(self) -> None:
        """A request begins."""
        self._under_way += 1
        self._until = self._now() + BUSY_WAIT_S
        if not self._turning:
            self._turning = True
            self._soon(self._turn)

    def end(self) -> None:
        """It is answered."""
        self._under_way -= 1

    def _turn(self) -> None:
        if self._under_way == 1 and self._now() < self._until:
            self._soon(self._turn)
        else:
            self._turning = False


class HttpServer:
    """One application on one socket: an ASGI app, or one that has ``answer`` and needs no ASGI."""

    def __init__(
        self, app: Asgi | Answers, listener: socket.socket, door: Door | None = None
    ) -> None:
        """Without a ``door`` it is that of this machine's names."""
        self.port = int(listener.getsockname()[1])
        self._door = door or Door()
        self._answer = app.answer if isinstance(app, Answers) else as_answer(app)
        self._listener = listener
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Returns once it accepts connections."""
        loop = asyncio.get_running_loop()
        busy_wait = BusyWait(loop)
        self._server = await loop.create_server(
            lambda: Connection(self._answer, self._connections, self._door, busy_wait),
            sock=self._listener,
            backlog=BACKLOG,
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


class TooLargeError(Exception):
    """It is above the limit."""


class ClientGoneError(Exception):
    """The client went, or sent bad HTTP, before its body was whole: half is another message."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """A whole body; raises ``TooLargeError`` above ``limit`` bytes, once all is read, or else the
    client might never read the answer, or ``ClientGoneError``.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body"):
            break
    if size > limit:
        raise TooLargeError
    return b"".join(parts)
