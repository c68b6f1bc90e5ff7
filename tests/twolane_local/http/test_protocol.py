"""The server's side of HTTP/1.1, over a plain socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from twolane_local.aws.events.http import HttpResponse
from twolane_local.aws.http_api import asgi
from twolane_local.aws.http_api.requests import Received
from twolane_local.clock.virtual import VirtualClock, run_virtual
from twolane_local.errors import LocalError
from twolane_local.http import servers
from twolane_local.http.servers import HttpServer, bind

Reply = Callable[[HttpResponse], Awaitable[None]]
Serve = Callable[[Received, Reply], Awaitable[None]]


class Stage:
    """A server whose requests the test answers, and one client of it."""

    max_body = 10

    def __init__(self, serve: Serve | None = None) -> None:
        self.received: list[Received] = []
        self._serve = serve
        self.server = HttpServer(self, bind(0, "--port"))
        self.writers: list[asyncio.StreamWriter] = []

    async def answer(self, exchange: servers.Exchange) -> None:
        await asgi.answer(self, exchange)

    async def serve(self, received: Received, reply: Reply) -> None:
        self.received.append(received)
        if self._serve is not None:
            await self._serve(received, reply)
        else:
            await reply(HttpResponse(200, (), b"ok"))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.writers.append(writer)
        return reader, writer

    async def all_of(self, data: bytes) -> bytes:
        """Send this; gives all that comes until the server closes."""
        reader, writer = await self.connect()
        writer.write(data)
        async with asyncio.timeout(5):
            return await reader.read()


def run(script: Callable[[Stage], Awaitable[None]], serve: Serve | None = None) -> Stage:
    async def main() -> Stage:
        stage = Stage(serve)
        await stage.server.start()
        try:
            await script(stage)
        finally:
            for writer in stage.writers:
                writer.close()
            await stage.server.stop()
        return stage

    return asyncio.run(main())


def exchange(data: bytes, serve: Serve | None = None) -> bytes:
    found = b""

    async def script(stage: Stage) -> None:
        nonlocal found
        found = await stage.all_of(data)

    run(script, serve)
    return found


def get(*headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} / HTTP/{version}", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


CLOSE = "Connection: close"


async def one_reply(reader: asyncio.StreamReader, length: int) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(length)


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        for _ in range(3):
            writer.write(get())
            answer = await one_reply(reader, 2)
            assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    assert len(run(script).received) == 3


def test_a_request_may_come_byte_by_byte() -> None:
    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        for byte in get("Content-Length: 3", CLOSE, method="POST") + b"abc":
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.read()).endswith(b"\r\n\r\nok")

    (received,) = run(script).received
    assert received.body == b"abc"
    assert received.headers == [
        (b"Host", b"localhost"),
        (b"Content-Length", b"3"),
        (b"Connection", b"close"),
    ]


def test_answers_keep_the_order_of_the_requests() -> None:
    async def slower_first(received: Received, reply: Reply) -> None:
        await asyncio.sleep(0.01 if received.query == b"0" else 0)
        await reply(HttpResponse(200, (), received.query))

    number = servers.PIPELINE * 3
    requests = [b"GET /?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % each for each in range(number)]

    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(b"".join(requests))
        for each in range(number):
            answer = await one_reply(reader, len(str(each)))
            assert answer.endswith(b"\r\n\r\n%d" % each)

    run(script, slower_first)


def test_a_connection_is_read_no_further_while_too_much_waits() -> None:
    held = asyncio.Event()

    async def hold(_: Received, reply: Reply) -> None:
        await held.wait()
        await reply(HttpResponse(200, (), b"ok"))

    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(get() * (servers.PIPELINE + 1))
        # Goes nowhere: the kernel's buffers, some MB at most, take it until they are full.
        writer.write(get(f"X-Padding: {'x' * 60_000}") * 400)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await writer.drain()
        held.set()
        async with asyncio.timeout(10):
            for _ in range(servers.PIPELINE + 1 + 400):
                await one_reply(reader, 2)

    run(script, hold)


@pytest.mark.parametrize("size", [10, 11, 100_000])
def test_a_body_above_the_limit_is_told_and_not_kept(size: int) -> None:
    async def script(stage: Stage) -> None:
        data = get(f"Content-Length: {size}", CLOSE, method="POST") + b"x" * size
        await stage.all_of(data)

    (received,) = run(script).received
    assert received.body == (b"x" * size if size <= Stage.max_body else None)


def test_a_client_that_waits_for_the_go_ahead_gets_it() -> None:
    """RFC 9110, 10.1.1"""

    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(get("Content-Length: 2", "Expect: 100-Continue", CLOSE, method="POST"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")

    (received,) = run(script).received
    assert received.body == b"ab"


@pytest.mark.parametrize(
    ("version", "headers", "closes"),
    [
        ("1.1", (), False),
        ("1.1", (CLOSE,), True),
        ("1.0", (), True),
        ("1.0", ("Connection: keep-alive",), False),
        # Nothing to upgrade to: an ordinary answer, and what follows might be of another protocol.
        ("1.1", ("Connection: Upgrade", "Upgrade: websocket"), True),
    ],
)
def test_whether_the_connection_stays(version: str, headers: tuple[str, ...], closes: bool) -> None:
    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(get(*headers, version=version))
        answer = await one_reply(reader, 2)
        assert (b"connection: close" in answer) == closes
        if closes:
            assert await reader.read() == b""
        else:
            writer.write(get(CLOSE))
            assert (await reader.read()).startswith(b"HTTP/1.1 200")

    run(script)


def test_what_cannot_be_read_is_answered_in_its_turn() -> None:
    answer = exchange(get() + b"NONSENSE\r\n\r\n")
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 400]


def test_an_idle_connection_is_closed_after_a_while() -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage()
        await stage.server.start()
        reader, writer = await stage.connect()
        await clock.sleep(servers.KEEP_ALIVE_S - 1)
        writer.write(get())
        await one_reply(reader, 2)
        await clock.sleep(servers.KEEP_ALIVE_S - 1)
        assert not reader.at_eof()
        await clock.sleep(2)
        assert await reader.read() == b""
        writer.close()
        await stage.server.stop()

    run_virtual(main)


@pytest.mark.parametrize("error", [ValueError("a bug"), LocalError("a bug")])
def test_a_gateway_that_fails_is_a_500_and_is_told(error: Exception) -> None:
    told: list[dict[str, Any]] = []

    async def fail(_: Received, __: Reply) -> None:
        raise error

    async def script(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        answer = await stage.all_of(get() + get(CLOSE))
        assert answer.count(b"HTTP/1.1 500") == 2

    run(script, fail)
    assert [str(context["exception"]) for context in told] == ["a bug", "a bug"]


async def pieces(*data: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
    if error is not None:
        raise error


def streams(*data: bytes, error: Exception | None = None) -> Serve:
    async def serve(_: Received, reply: Reply) -> None:
        stream = pieces(*data, error=error)
        await reply(HttpResponse(200, (), b"first", stream=stream))

    return serve


def test_a_stream_is_chunked() -> None:
    head, _, body = exchange(get(CLOSE), streams(b"", b"second")).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"


def test_a_stream_to_an_older_client_ends_with_the_connection() -> None:
    """RFC 9112, 6.1: it may not know what chunks are."""
    request = get("Connection: keep-alive", version="1.0")
    head, _, body = exchange(request, streams(b"second")).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b"firstsecond"


def test_a_stream_that_breaks_off_has_no_end() -> None:
    answer = exchange(get(), streams(b"second", error=LocalError("the function failed")))
    assert answer.endswith(b"6\r\nsecond\r\n")


def test_a_stream_waits_for_a_slow_client_and_goes_on_where_it_has_gone() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for taken in range(1, 401):  # noqa: B007 - the test looks at it
            yield b"x" * 100_000

    ended = asyncio.Event()

    async def serve(_: Received, reply: Reply) -> None:
        await reply(HttpResponse(200, (), b"", stream=endless()))
        ended.set()

    async def script(stage: Stage) -> None:
        _, writer = await stage.connect()
        writer.write(get())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ended.wait()
        assert 0 < taken < 400
        writer.transport.abort()
        async with asyncio.timeout(5):
            await ended.wait()

    run(script, serve)


def test_stop_waits_for_what_is_under_way_and_takes_no_more() -> None:
    going, finish = asyncio.Event(), asyncio.Event()

    async def slow(_: Received, reply: Reply) -> None:
        going.set()
        await finish.wait()
        await reply(HttpResponse(200, (), b"done"))

    async def script(stage: Stage) -> None:
        idle, _ = await stage.connect()
        reader, writer = await stage.connect()
        writer.write(get())
        await going.wait()
        stopping = asyncio.create_task(stage.server.stop())
        assert await idle.read() == b""
        finish.set()
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200") == 1
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await stage.connect()

    run(script, slow)


def test_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "GRACE_S", 0.01)
    going = asyncio.Event()

    async def hang(_: Received, __: Reply) -> None:
        going.set()
        await asyncio.Event().wait()

    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        writer.write(get())
        await going.wait()
        await stage.server.stop()
        assert await reader.read() == b""

    run(script, hang)


def test_a_client_that_sends_too_much_and_goes_leaves_nothing_behind() -> None:
    told: list[dict[str, Any]] = []
    served = asyncio.Event()

    async def last(_: Received, reply: Reply) -> None:
        await asyncio.sleep(0)
        await reply(HttpResponse(200, (), b"ok"))
        served.set()

    async def script(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        _, writer = await stage.connect()
        writer.write(get() * (servers.PIPELINE + 2))
        writer.write_eof()
        async with asyncio.timeout(5):
            await served.wait()
        writer.transport.abort()

    run(script, last)
    assert told == []


def answered(response: HttpResponse, request: bytes) -> tuple[str, bytes]:
    """The head and the body of what a gateway's response becomes."""

    async def serve(_: Received, reply: Reply) -> None:
        await reply(response)

    head, _, body = exchange(request, serve).partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding", "connection", "upgrade"])
def test_a_function_does_not_set_the_connections_own_headers(name: str) -> None:
    answer = answered(HttpResponse(200, ((name, "7"),), b"four"), get(CLOSE))
    assert answer == ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close", b"four")


def test_an_unknown_status_has_an_empty_phrase() -> None:
    """RFC 9112, 4: the space before it stays."""
    assert answered(HttpResponse(599), get(CLOSE))[0].startswith("HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_these_have_no_body_and_no_length(status: int) -> None:
    head, body = answered(HttpResponse(status, (), b"must not be sent"), get(CLOSE))
    assert "content-length" not in head
    assert "transfer-encoding" not in head
    assert body == b""


def test_an_answer_to_head_says_the_length_and_has_no_body() -> None:
    head, body = answered(HttpResponse(200, (), b"four"), get(CLOSE, method="HEAD"))
    assert "content-length: 4\r\n" in head
    assert body == b""


def test_a_header_beyond_latin_1_does_not_break_the_response() -> None:
    assert "x-a: ?" in answered(HttpResponse(200, (("x-a", "\N{SNOWMAN}"),)), get(CLOSE))[0]


# What an ASGI application may do.


def conversation(
    app: Callable[..., Awaitable[None]],
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> list[str]:
    """Run a client's script against an application; returns the errors that were reported."""
    told: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: told.append(str(context.get("exception")))
        )
        server = HttpServer(app, bind(0, "--port"))
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            async with asyncio.timeout(10):
                await script(reader, writer)
        finally:
            writer.close()
            await server.stop()

    asyncio.run(main())
    return told


def sends(*headers: tuple[bytes, bytes], body: bytes = b"ok") -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def test_an_application_that_does_not_ask_for_the_body_is_not_given_the_next_request_of_it() -> (
    None
):
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = servers.HELD * 4
        writer.write(get(f"Content-Length: {size}", method="POST"))
        assert (await one_reply(reader, 2)).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /smuggled HTTP/1.1\r\n".ljust(size, b"x"))
        writer.write(get(CLOSE))
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1

    assert conversation(sends((b"content-length", b"2")), script) == []


def test_a_large_body_waits_outside_until_it_is_asked_for() -> None:
    size = 64 << 20
    ask = asyncio.Event()
    taken = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        await ask.wait()
        while True:
            message = await receive()
            assert len(message["body"]) < servers.HELD * 4
            taken += len(message["body"])
            if not message["more_body"]:
                break
        await sends()(scope, receive, send)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get(f"Content-Length: {size}", CLOSE, method="POST"))
        writer.write(b"x" * size)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await writer.drain()
        ask.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 200")

    assert conversation(app, script) == []
    assert taken == size


def test_an_application_learns_that_its_client_went() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        asked.set()
        assert await receive() == {"type": "http.disconnect"}
        await sends()(scope, receive, send)  # goes nowhere
        told.set()

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get())
        await asked.wait()
        writer.transport.abort()
        await told.wait()

    assert conversation(app, script) == []


def test_a_header_with_a_line_end_is_no_header() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get())
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"stolen" not in answer

    (error,) = conversation(sends((b"x-a", b"1\r\nset-cookie: stolen")), script)
    assert "line end" in error


@pytest.mark.parametrize("length", [b"1", b"3"])
def test_a_response_of_another_length_ends_the_connection(length: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get() + get())
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1

    (error,) = conversation(sends((b"content-length", length)), script)
    assert "length" in error


def test_an_application_that_does_not_answer_is_a_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get())
        assert (await reader.read()).startswith(b"HTTP/1.1 500")

    assert conversation(app, script) == ["the application ended without a response"]


def test_nonsense_in_a_body_ends_the_connection_and_no_response_is_broken_off() -> None:
    """A chunk that is none, before and after the application has begun to answer."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        await end.wait()
        await send({"type": "http.response.body", "body": b"b"})

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n")
        await begun.wait()
        writer.write(b"zz\r\n")
        end.set()
        answer = await reader.read()
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")

    assert conversation(app, script) == []


def test_nonsense_in_a_body_that_nobody_wants_ends_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("Transfer-Encoding: chunked", method="POST"))
        assert (await one_reply(reader, 2)).startswith(b"HTTP/1.1 200")
        writer.write(b"zz\r\n")
        assert await reader.read() == b""

    assert conversation(sends((b"content-length", b"2")), script) == []


def test_a_client_that_was_not_told_to_go_ahead_gets_no_second_answer() -> None:
    """It may send the body or not: what comes next could be either."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get("Content-Length: 9", "Expect: 100-continue", method="POST"))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer

    assert conversation(sends((b"content-length", b"2")), script) == []


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        ((), 400),
        (("localhost", "localhost"), 400),
        (("localhost", "evil.example"), 400),
        (("evil.example",), 403),
        (("sqs.us-east-1.amazonaws.com",), 403),
        (("localhost",), 200),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_request_names_this_machine_once(
    hosts: tuple[str, ...], status: int, version: str
) -> None:
    lines = [f"POST / HTTP/{version}", *(f"Host: {host}" for host in hosts), CLOSE]
    data = "\r\n".join([*lines, "Content-Length: 2", "", "ab"]).encode()

    async def script(stage: Stage) -> None:
        answer = await stage.all_of(data)
        assert answer.startswith(b"HTTP/1.1 %d " % status)

    assert len(run(script).received) == (1 if status == 200 else 0)


def test_a_page_of_elsewhere_does_not_reach_the_application() -> None:
    handshake = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip

    async def script(stage: Stage) -> None:
        for headers in ((), handshake):
            for origin in ("http://evil.example", "null", "http://localhost.evil.example:80"):
                answer = await stage.all_of(get(*headers, f"Origin: {origin}"))
                assert answer.startswith(b"HTTP/1.1 403 ")
                assert b"access-control" not in answer.lower()
        # What follows on the same connection is not read.
        answer = await stage.all_of(get("Origin: null") + get(CLOSE))
        assert answer.count(b"HTTP/1.1 ") == 1

    assert run(script).received == []


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("what", ["target", "header", "headers"])
def test_a_large_head_is_told_and_not_kept(what: str, at_once: bool) -> None:
    size = servers.MAX_HEAD
    data = {
        "target": b"GET /" + b"x" * size + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "header": get(f"X-Padding: {'x' * size}"),
        "headers": get(*[f"X-{number}: {'x' * 1000}" for number in range(size // 1000 + 1)]),
    }[what]

    async def script(stage: Stage) -> None:
        reader, writer = await stage.connect()
        step = len(data) if at_once else 8000
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            if not at_once:
                await asyncio.sleep(0)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    assert run(script).received == []


def test_a_head_without_an_end_is_not_read_for_ever() -> None:
    async def script(stage: Stage) -> None:
        _, writer = await stage.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        lines = (b"X-A: " + b"x" * 1000 + b"\r\n") * servers.MAX_HEAD

        async def send() -> None:
            for start in range(0, len(lines), 8000):
                writer.write(lines[start : start + 8000])
                await writer.drain()

        with pytest.raises(ConnectionError):
            await send()

    assert run(script).received == []


def test_trailers_without_an_end_are_not_read_for_ever() -> None:
    async def script(stage: Stage) -> None:
        head = get("Transfer-Encoding: chunked", method="POST") + b"0\r\n"
        trailers = b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(100))
        answer = await stage.all_of(head + trailers)
        assert answer.startswith(b"HTTP/1.1 400 ")

    assert run(script).received == []


HALF_HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Le"
HALF_BODY = get("Content-Length: 3", method="POST") + b"a"


@pytest.mark.parametrize("half", [HALF_HEAD, HALF_BODY, get() + HALF_HEAD, get() + HALF_BODY])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_request_that_does_not_end_is_ended(half: bytes, goes_on: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        stage = Stage()
        await stage.server.start()
        reader, writer = await stage.connect()
        writer.write(half)
        answered = b""
        if half.startswith(get()):
            answered = await one_reply(reader, 2)
        if goes_on:  # a byte now and then
            await clock.sleep(servers.PATIENCE_S / 2)
            writer.write(b"n" if half.endswith(HALF_HEAD) else b"b")
            await clock.sleep(servers.PATIENCE_S / 2 - 1)
        else:
            await clock.sleep(servers.PATIENCE_S - 1)
        assert not reader.at_eof()
        await clock.sleep(2)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert (b"connection: close") in answer
        assert len(stage.received) == (1 if answered else 0)
        writer.close()
        await stage.server.stop()

    run_virtual(main)


def test_a_large_upload_over_a_slow_line_has_the_time_that_it_takes() -> None:
    total, piece = 12 * servers.SLOWEST, 2 * servers.SLOWEST

    async def read(received: Received, reply: Reply) -> None:
        await reply(HttpResponse(200, (), b"ok"))

    async def main(clock: VirtualClock) -> None:
        stage = Stage(read)
        stage.max_body = total
        await stage.server.start()
        reader, writer = await stage.connect()
        writer.write(get(f"Content-Length: {total}", CLOSE, method="POST"))
        for _ in range(total // piece):
            await clock.sleep(servers.PATIENCE_S / 6 + 1)
            writer.write(bytes(piece))
            await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        assert [len(each.body or b"") for each in stage.received] == [total]
        writer.close()
        await stage.server.stop()

    run_virtual(main)


def test_an_application_may_take_its_time() -> None:
    async def slow(received: Received, reply: Reply) -> None:
        await asyncio.sleep(3 * servers.PATIENCE_S)
        await reply(HttpResponse(200, (), b"ok"))

    async def main(clock: VirtualClock) -> None:
        stage = Stage(slow)
        await stage.server.start()
        reader, writer = await stage.connect()
        writer.write(get("Content-Length: 2", CLOSE, method="POST"))
        await clock.sleep(1)
        writer.write(b"ab")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await stage.server.stop()

    run_virtual(main)


def test_a_body_that_waits_for_the_application_is_not_late() -> None:
    size = servers.HELD * 40
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3 * servers.PATIENCE_S)
        seen.append(len(await servers.read_body(receive, size)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main(clock: VirtualClock) -> None:
        server = HttpServer(app, bind(0, "--port"))
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(get(f"Content-Length: {size}", CLOSE, method="POST") + bytes(size))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await server.stop()

    run_virtual(main)
    assert seen == [size]
