"""The transport against the emulator's own Runtime API, on a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.lambda_ import runtime_api
from twolane_local.aws.lambda_.environment import Work
from twolane_local.aws.lambda_.report import InvocationRecord
from twolane_local.aws.lambda_.transport import Transport, cause
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.lambda_.runtime_api import Reply


class Api:
    """Implements what of ``Calls`` the runtime uses; hands out one event after another."""

    def __init__(self, event: bytes = b'{"n":1}') -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.event = event
        self.waiting: list[Reply] = []
        self.limit = 1 << 20

    def runtime_next(self, reply: Reply) -> None:
        self.calls.append(("next",))
        if self.event:
            record = InvocationRecord(Journal(SystemClock()), "fn", "r-1")
            work = Work("r-1", self.event, asyncio.get_running_loop().create_future(), record)
            reply.send(200, self.event, runtime_api.next_headers(work, "arn"))
        else:
            self.waiting.append(reply)

    def runtime_response(self, request_id: str, body: bytes, reply: Reply) -> None:
        self.calls.append(("response", request_id, len(body)))
        if len(body) > self.limit:
            runtime_api.refuse(reply, 413, "RequestEntityTooLarge", "too large")
        else:
            runtime_api.accept(reply)

    def runtime_error(self, request_id: str, body: bytes, reply: Reply) -> None:
        self.calls.append(("error", request_id, body))
        runtime_api.accept(reply)


def with_transport(api: Api, script: Callable[[Transport], Any]) -> Any:
    """Run the script on this thread, the API on another's loop."""
    started: list[Any] = []
    ready = threading.Event()

    async def serve() -> None:
        stop = asyncio.Event()
        channel = await runtime_api.connect(api)  # type: ignore[arg-type]
        started.extend((asyncio.get_running_loop(), stop, channel))
        ready.set()
        await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    loop, stop, channel = started
    transport = Transport(channel)
    try:
        return script(transport)
    finally:
        transport.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def test_events_in_responses_out_in_order() -> None:
    api = Api()

    def script(transport: Transport) -> None:
        for _ in range(3):
            event, headers = transport.next()
            assert event == b'{"n":1}'
            assert headers["Lambda-Runtime-Aws-Request-Id"] == "r-1"
            assert headers["Lambda-Runtime-Deadline-Ms"] == 0
            transport.post("r-1/response", b"{}", "application/json")
        transport.next()

    with_transport(api, script)
    assert api.calls == [("next",), *[("response", "r-1", 2), ("next",)] * 3]


def test_large_events_and_responses() -> None:
    api = Api(b'"%s"' % (b"x" * 3_000_000))

    def script(transport: Transport) -> None:
        for size in (900_000, 10, 65_536, 65_537):
            event, _ = transport.next()
            assert len(event) == 3_000_002
            transport.post("r-1/response", b"y" * size, "application/json")

    with_transport(api, script)
    assert [call[2] for call in api.calls if call[0] == "response"] == [900_000, 10, 65_536, 65_537]


def test_a_refused_response_ends_the_runtime_before_it_asks_again() -> None:
    api = Api()
    api.limit = 100_000

    def script(transport: Transport) -> None:
        transport.next()
        with pytest.raises(RuntimeError, match="413 instead of 202"):
            transport.post("r-1/response", b"y" * 200_000, "application/json")

    with_transport(api, script)
    assert api.calls == [("next",), ("response", "r-1", 200_000)]


def test_a_signal_is_handled_while_it_waits_for_an_event() -> None:
    seen: list[int] = []

    def handle(number: int, _: Any) -> None:
        seen.append(number)
        raise SystemExit

    def script(transport: Transport) -> None:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(SystemExit):
            transport.next()
        timer.join()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with_transport(Api(b""), script)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


class Closing(Api):
    def runtime_next(self, reply: Reply) -> None:
        reply._connection.transport.close()


def test_a_closed_connection_is_an_error() -> None:
    def script(transport: Transport) -> None:
        with pytest.raises(RuntimeError, match="closed the connection"):
            transport.next()

    with_transport(Closing(), script)


def test_a_fault_cannot_smuggle_a_header_in() -> None:
    assert cause('{"a":"b"}\r\nX: y\n') == '{"a":"b"}X: y'
    assert cause("x" * 2_000_000) == ""
