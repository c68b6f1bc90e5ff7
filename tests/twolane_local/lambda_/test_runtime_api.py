"""https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, over a plain socket."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.lambda_ import runtime_api
from twolane_local.aws.lambda_.environment import Work
from twolane_local.aws.lambda_.report import InvocationRecord
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal

if TYPE_CHECKING:
    from twolane_local.aws.lambda_.runtime_api import Reply


#: Stands for the address, in what a test sends.
HOST = b"ADDRESS"


class Remembering:
    """Implements ``Calls``: notes each, and answers at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def runtime_next(self, reply: Reply) -> None:
        self.calls.append(("next",))
        reply.send(200, b'{"event":1}', b"Lambda-Runtime-Aws-Request-Id: r\r\n")

    def runtime_response(self, request_id: str, body: bytes, reply: Reply) -> None:
        self.calls.append(("response", request_id, body))
        runtime_api.accept(reply)

    def runtime_error(self, request_id: str, body: bytes, reply: Reply) -> None:
        self.calls.append(("error", request_id, body))
        runtime_api.accept(reply)

    def init_error(self, body: bytes, reply: Reply) -> None:
        self.calls.append(("init error", body))
        runtime_api.accept(reply)

    def extension_register(self, name: str, events: list[str], reply: Reply) -> None:
        self.calls.append(("register", name, events))
        reply.send(200, b"{}")

    def extension_next(self, identifier: str, reply: Reply) -> None:
        self.calls.append(("extension next", identifier))
        reply.send(200, b"{}")

    def extension_error(self, identifier: str, body: bytes, reply: Reply) -> None:
        self.calls.append(("extension error", identifier, body))
        runtime_api.accept(reply)


def exchange(
    *requests: bytes, environ: dict[str, str] | None = None
) -> tuple[list[tuple[Any, ...]], bytes]:
    """The calls, and all answers on one kept connection."""
    calls = Remembering()

    async def main() -> bytes:
        server, address = await runtime_api.serve(calls, environ or {})
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = b""
        for each in requests:
            writer.write(each.replace(HOST, address.encode()))
            async with asyncio.timeout(5):
                answers += await reader.read(65536)
        writer.close()
        server.close()
        return answers

    return calls.calls, asyncio.run(main())


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {HOST.decode()}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


RUNTIME = "/2018-06-01/runtime"
EXTENSION = "/2020-01-01/extension"


@pytest.mark.parametrize(
    ("sent", "call"),
    [
        (request("GET", f"{RUNTIME}/invocation/next"), ("next",)),
        (request("POST", f"{RUNTIME}/invocation/r/response", b"x"), ("response", "r", b"x")),
        (request("POST", f"{RUNTIME}/invocation/r/error", b"x"), ("error", "r", b"x")),
        (request("POST", f"{RUNTIME}/init/error", b"x"), ("init error", b"x")),
        (
            request("POST", f"{EXTENSION}/register", b'{"events":["INVOKE"]}',
                    "Lambda-Extension-Name: me"),
            ("register", "me", ["INVOKE"]),
        ),
        (
            request("GET", f"{EXTENSION}/event/next", b"", "Lambda-Extension-Identifier: 7"),
            ("extension next", "7"),
        ),
        (
            request("POST", f"{EXTENSION}/exit/error", b"x", "Lambda-Extension-Identifier: 7"),
            ("extension error", "7", b"x"),
        ),
    ],
)  # fmt: skip
def test_each_path_is_one_call(sent: bytes, call: tuple[Any, ...]) -> None:
    calls, answer = exchange(sent)
    assert calls == [call]
    assert answer.startswith(b"HTTP/1.1 20")
    # Without a content type the native runtime client crashes.
    assert b"Content-Type: application/json" in answer


def test_calls_on_one_connection_do_not_mix() -> None:
    calls, _ = exchange(
        request("POST", f"{RUNTIME}/invocation/a/response", b"1" * 70_000),
        request("POST", f"{RUNTIME}/invocation/b/response", b"2"),
    )
    assert calls == [("response", "a", b"1" * 70_000), ("response", "b", b"2")]


@pytest.mark.parametrize("path", ["/", "/2018-06-01/runtime/other", "/2020-01-01/extension/x"])
def test_unknown_paths(path: str) -> None:
    calls, answer = exchange(request("GET", path))
    assert (calls, answer.split(None, 2)[1]) == ([], b"404")


def test_a_registration_that_is_no_json() -> None:
    calls, answer = exchange(request("POST", f"{EXTENSION}/register", b"["))
    assert (calls, answer.split(None, 2)[1]) == ([], b"400")


def test_a_body_that_waits_to_be_asked_for_is_asked_for() -> None:
    head = request("POST", f"{RUNTIME}/invocation/r/response", b"12", "Expect: 100-continue")
    calls, answer = exchange(head[:-2], head[-2:])
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert calls == [("response", "r", b"12")]


def test_the_headers_of_an_invocation_cannot_be_split() -> None:
    async def main() -> bytes:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        context = json.dumps({"custom": {"a": "é\r\nEvil: 1"}}, ensure_ascii=False)
        record = InvocationRecord(Journal(SystemClock()), "fn", "r")
        work = Work("r", b"{}", done, record, client_context=context, deadline_ms=5)
        return runtime_api.next_headers(work, "arn:fn")

    lines = asyncio.run(main()).split(b"\r\n")
    assert b"Lambda-Runtime-Deadline-Ms: 5" in lines
    assert b"Lambda-Runtime-Invoked-Function-Arn: arn:fn" in lines
    assert not [line for line in lines if line.startswith(b"Evil")]


NEXT = request("GET", f"{RUNTIME}/invocation/next")
HOST_LINE = b"Host: %s\r\n" % HOST


@pytest.mark.parametrize(
    "foreign",
    [
        NEXT.replace(HOST_LINE, b""),
        NEXT.replace(HOST_LINE, HOST_LINE * 2),
        NEXT.replace(HOST, b"evil.example"),
        NEXT.replace(HOST, b"localhost"),
        NEXT.replace(HOST, b"127.0.0.1:1"),
        NEXT.replace(HOST, HOST + b".evil.example"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "Origin: null"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "Origin: http://localhost:3000"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "Sec-Fetch-Site: cross-site"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "Sec-Fetch-Site: none"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "Sec-Fetch-Mode: no-cors"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "Referer: http://localhost:3000/"),
        request("GET", f"{RUNTIME}/invocation/next", b"", "User-Agent: Mozilla/5.0 (X11)"),
        request("POST", f"{RUNTIME}/invocation/r/response", b"x", "Origin: null"),
        request("POST", f"{RUNTIME}/init/error", b"x", "Origin: null"),
        request("POST", f"{EXTENSION}/register", b'{"events":["INVOKE"]}', "Origin: null"),
        request("OPTIONS", f"{RUNTIME}/invocation/next", b"", "Origin: http://evil.example"),
        request("POST", f"{RUNTIME}/invocation/r/response", b"x", "Origin: null",
                "Lambda-Runtime-Function-Response-Mode: streaming"),
    ],
)  # fmt: skip
def test_a_web_page_takes_no_invocation_and_answers_none(foreign: bytes) -> None:
    calls, answer = exchange(foreign + NEXT)  # nor does what comes after it
    assert calls == []
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_the_address_is_a_random_one_of_loopback() -> None:
    async def main() -> list[str]:
        found = []
        for environ in ({}, {}, {"HTTPS_PROXY": "http://proxy"}, {"http_proxy": "http://proxy"}):
            server, address = await runtime_api.serve(Remembering(), environ)
            server.close()
            found.append(address.partition(":")[0])
        return found

    one, other, *proxied = asyncio.run(main())
    assert proxied == ["127.0.0.1", "127.0.0.1"]
    if sys.platform == "linux":
        assert one.startswith("127.")
        assert len({one, other, "127.0.0.1"}) == 3


def test_a_head_without_an_end_ends_the_connection() -> None:
    calls, answer = exchange(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert (calls, answer) == ([], b"")
