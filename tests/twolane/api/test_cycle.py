"""One ASGI call, message by message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from twolane.api.cycle import Cycle
from twolane.api.inline import Lane

if TYPE_CHECKING:
    from collections.abc import Iterator

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"ok"}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _cycle(loop: asyncio.AbstractEventLoop, *, hold: bool) -> Cycle:
    lane = Lane("r-1", lambda: "GET /", lambda: 30.0, reserve_s=1.0, watch=lambda lane: None)
    scope = {"type": "http", "method": "GET", "path": "/"}
    return Cycle(scope, b"body", lane=lane, stop=loop.stop, hold=hold)


def test_a_held_call_goes_on_only_when_it_is_released(loop) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send(START)
        await send(END)
        seen.append("after")
        seen.append(await receive())

    cycle = _cycle(loop, hold=True)
    task = loop.create_task(cycle.run(app))
    loop.run_forever()
    assert cycle.answered
    assert seen == [{"type": "http.request", "body": b"body", "more_body": False}]
    assert cycle.response == {"status": 200, "headers": [], "body": b"ok"}

    cycle.release()
    cycle.release()
    loop.run_forever()
    assert task.done()
    assert seen[1:] == ["after", {"type": "http.disconnect"}]


def test_messages_out_of_order_are_an_error_of_the_application(loop, caplog) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(END)

    cycle = _cycle(loop, hold=False)
    loop.create_task(cycle.run(app))
    loop.run_forever()
    assert cycle.response["status"] == 500
    assert "Unexpected http.response.body" in caplog.text


def test_a_response_after_the_response_is_an_error_of_the_request(loop, caplog) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (START, END, START):
            await send(message)

    cycle = _cycle(loop, hold=False)
    loop.create_task(cycle.run(app))
    loop.run_forever()
    assert cycle.response["status"] == 200
    (failed,) = caplog.records
    assert failed.twolane["event"] == "request.failed"
    assert "200 GET / answered, then failed: UnexpectedMessage" in failed.getMessage()


@pytest.mark.parametrize("sent", [[], [START], [START, {**END, "more_body": True}]])
def test_a_call_that_ends_early_is_a_500(loop, sent) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)

    cycle = _cycle(loop, hold=True)
    loop.create_task(cycle.run(app))
    loop.run_forever()
    assert cycle.answered
    assert cycle.response["body"] == b"Internal Server Error"


def test_a_cancelled_call_answers_and_stays_cancelled(loop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    cycle = _cycle(loop, hold=True)
    task = loop.create_task(cycle.run(app))
    loop.call_soon(task.cancel)
    loop.run_forever()
    assert cycle.response["status"] == 500
    assert task.cancelled()
