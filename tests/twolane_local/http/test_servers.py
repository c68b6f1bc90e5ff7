"""The server in front of everything, attacked over a plain socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.http_api.gateways import Gateway
from twolane_local.aws.invocation import Invocation
from twolane_local.clock import SystemClock
from twolane_local.errors import PortInUseError
from twolane_local.http.servers import HttpServer, bind
from twolane_local.journal import Journal
from twolane_local.model import RouteSpec

if TYPE_CHECKING:
    from collections.abc import Callable


class Recording:
    """Answers with the event; may answer with what the test wants the client to get."""

    def __init__(self, answer: Any = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.answer = answer

    async def invoke(
        self, function: str, event: bytes, *, request_id: str | None = None
    ) -> Invocation:
        self.events.append(json.loads(event))
        answer = self.answer or {"statusCode": 200, "body": "ok"}
        return Invocation("", json.dumps(answer).encode())


def exchange(data: bytes, invoker: Recording, route: RouteSpec | None = None) -> bytes:
    """Send bytes as they are to a gateway on a real socket; returns all that comes back."""

    async def main() -> bytes:
        listener = bind(0, "--port")
        clock = SystemClock()
        gateway = Gateway([route or RouteSpec("fn")], invoker, clock, Journal(clock))
        server = HttpServer(gateway, listener)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        try:
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()
            await server.stop()

    return asyncio.run(main())


def request(target: str = "/", *headers: str, method: str = "GET", body: str = "") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def status(answer: bytes) -> int:
    return int(answer.split(None, 2)[1]) if answer else 0


def test_both_content_length_and_transfer_encoding_is_refused() -> None:
    """Request smuggling: RFC 9112, 6.3."""
    invoker = Recording()
    smuggled = request(
        "/", "Content-Length: 4", "Transfer-Encoding: chunked", method="POST",
        body="0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )  # fmt: skip
    assert status(exchange(smuggled, invoker)) == 400
    assert not [event for event in invoker.events if "smuggled" in event["rawPath"]]


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 1", "Content-Length: 2"),
        ("Content-Length: -1",),
        ("Content-Length: 1x",),
        ("Bad Header: x",),
        ("X-A: a\x00b",),
    ],
)
def test_malformed_headers_are_refused(headers: tuple[str, ...]) -> None:
    invoker = Recording()
    assert status(exchange(request("/", *headers, method="POST", body="a"), invoker)) == 400
    assert invoker.events == []


@pytest.mark.parametrize(
    "head",
    [
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "f" * 17
        + "\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\rX-B: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n: empty\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET  / /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "NONSENSE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_ambiguous_framing_is_refused(head: str) -> None:
    """RFC 9112, 5.1, 6.1, 7.1 and 11.2: what two parsers may read in two ways, none here reads."""
    invoker = Recording()
    assert status(exchange(head.encode("latin-1"), invoker)) == 400
    assert invoker.events == []


def test_half_a_body_is_no_request() -> None:
    """The client goes before it has sent all that it announced."""
    invoker = Recording()

    async def main() -> None:
        clock = SystemClock()
        gateway = Gateway([RouteSpec("fn")], invoker, clock, Journal(clock))
        server = HttpServer(gateway, bind(0, "--port"))
        await server.start()
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await server.stop()

    asyncio.run(main())
    assert invoker.events == []


def test_a_trailer_does_not_become_a_header() -> None:
    """RFC 9110, 6.5.1: it comes when everything was decided by the headers."""
    invoker = Recording()
    body = "1\r\na\r\n0\r\nX-Forwarded-For: 8.8.8.8\r\nAuthorization: stolen\r\n\r\n"
    chunked = request("/", "Transfer-Encoding: chunked", method="POST", body=body)
    assert status(exchange(chunked, invoker)) == 200
    (event,) = invoker.events
    assert "authorization" not in event["headers"]
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_a_folded_header_stays_one_value() -> None:
    """RFC 9112, 5.2: obsolete, to be refused or read as one line."""
    invoker = Recording()
    answer = exchange(request("/", "X-A: b\r\n Transfer-Encoding: chunked"), invoker)
    assert status(answer) in {200, 400}
    assert all("transfer-encoding" not in event["headers"] for event in invoker.events)


def test_a_pipelined_request_is_one_of_its_own() -> None:
    invoker = Recording()
    first = b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert exchange(first + request("/two"), invoker).count(b"HTTP/1.1 200") == 2
    assert [event["rawPath"] for event in invoker.events] == ["/one", "/two"]


def test_a_rest_api_sees_header_names_as_the_client_wrote_them() -> None:
    invoker = Recording({"statusCode": 200, "body": "ok"})
    route = RouteSpec("fn", path="/", kind="rest", payload="1.0", stage="v1")
    answer = exchange(request("/v1", "X-MixedCase: 1", "x-mixedcase: 2"), invoker, route)
    assert status(answer) == 200
    (event,) = invoker.events
    assert event["headers"]["X-MixedCase"] == "1"
    assert event["multiValueHeaders"]["x-mixedcase"] == ["2"]
    assert {"Host", "X-Forwarded-For", "X-Amzn-Trace-Id"} <= event["headers"].keys()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/%2e%2f%2e%2e/etc/passwd", "/./../etc/passwd"),
        ("/a%2Fb", "/a/b"),
        ("/a%00b", "/a\x00b"),
        ("//double", "//double"),
        ("http://evil.example/abs", "/abs"),
    ],
)
def test_odd_targets_reach_the_function_as_data(target: str, path: str) -> None:
    """Nothing of ours opens a file by a request's path; the function sees what was sent."""
    invoker = Recording()
    assert status(exchange(request(target), invoker)) == 200
    (event,) = invoker.events
    assert event["rawPath"] == path
    assert event["requestContext"]["domainName"] == "localhost"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-a": "1\r\nset-cookie: stolen=1"},
        {"x-a\r\nset-cookie": "stolen=1"},
        {"x-a": "1\nset-cookie: stolen=1"},
    ],
)
def test_a_function_cannot_split_a_response(headers: dict[str, str]) -> None:
    invoker = Recording({"statusCode": 200, "headers": headers, "body": "x"})
    answer = exchange(request(), invoker)
    assert b"\nset-cookie" not in answer.lower()
    assert status(answer) == 500


def test_a_taken_port_names_the_flag() -> None:
    with bind(0, "--port") as taken, pytest.raises(PortInUseError, match="choose another with --x"):
        bind(taken.getsockname()[1], "--x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may take any port")
def test_a_low_port_says_so() -> None:
    with pytest.raises(PortInUseError, match="above 1023"):
        bind(80, "--port")


def test_only_loopback_is_bound() -> None:
    with bind(0, "--port") as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert listener.family == socket.AF_INET


def test_stop_waits_for_what_is_under_way() -> None:
    async def main(release: Callable[[], None] | None = None) -> bytes:
        going = asyncio.Event()
        finish = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            going.set()
            await finish.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        server = HttpServer(slow, bind(0, "--port"))
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request())
        await going.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        finish.set()
        answer = await reader.read()
        await stopping
        writer.close()
        return answer

    assert asyncio.run(main()).endswith(b"done\r\n0\r\n\r\n")
