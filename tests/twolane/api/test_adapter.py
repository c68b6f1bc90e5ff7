"""Literal events in, literal dicts out, with FastAPI as the application."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from mangum.exceptions import LifespanFailure
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Message(BaseModel):
    email: str


def test_an_event_becomes_a_request_and_its_response_a_dict(api, http_event, context) -> None:
    app = FastAPI()

    @app.post("/notify")
    def notify(message: Message) -> dict[str, str]:
        return {"message": f"to {message.email}"}

    event = http_event("POST", "/notify", body='{"email": "user@example.com"}')

    assert api(app)(event, context) == {
        "statusCode": 200,
        "headers": {"content-length": "33", "content-type": "application/json"},
        "body": '{"message":"to user@example.com"}',
        "isBase64Encoded": False,
    }


def test_without_an_extension_the_work_is_done_before_the_return(api, http_event, context) -> None:
    app = FastAPI()
    done: list[str] = []

    async def first() -> None:
        await asyncio.sleep(0)
        done.append("first")

    @app.get("/")
    async def index(tasks: BackgroundTasks) -> str:
        tasks.add_task(first)
        tasks.add_task(done.append, "second")
        done.append("endpoint")
        return "ok"

    assert api(app)(http_event(), context)["body"] == '"ok"'
    assert done == ["endpoint", "first", "second"]


def test_the_lifespan_runs_once_for_many_requests(api, http_event, context) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.append("startup")
        yield {"pool": object(), "loop": asyncio.get_running_loop()}
        seen.append("shutdown")

    app = FastAPI(lifespan=lifespan)
    pools: list[Any] = []

    @app.get("/")
    async def index(request: Request) -> bool:
        pools.append(request.state.pool)
        return request.state.loop is asyncio.get_running_loop()

    handler = api(app)
    assert seen == ["startup"], "startup belongs to the init, before any request"
    bodies = [handler(http_event(), context)["body"] for _ in range(3)]
    assert bodies == ["true"] * 3
    assert len(set(map(id, pools))) == 1
    handler.close()
    assert seen == ["startup", "shutdown"]


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_failing_startup_fails_the_init_with_its_cause(api, mode) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("no DATABASE_URL")
        yield

    with pytest.raises(LifespanFailure, match="no DATABASE_URL"):
        api(FastAPI(lifespan=lifespan), lifespan=mode)


def test_a_request_does_not_see_what_another_put_into_its_state(api, http_event, context) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"count": 0}

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def index(request: Request) -> int:
        request.state.count += 1
        return int(request.state.count)

    handler = api(app)
    assert [handler(http_event(), context)["body"] for _ in range(2)] == ["1", "1"]


def test_an_exception_in_an_endpoint_is_a_500_and_the_next_request_is_served(
    api, http_event, context
) -> None:
    app = FastAPI()

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("boom")

    @app.get("/")
    def index() -> str:
        return "ok"

    handler = api(app)
    assert handler(http_event(path="/boom"), context)["statusCode"] == 500
    assert handler(http_event(), context)["statusCode"] == 200


def test_an_exception_in_the_work_is_logged_and_spares_the_response(
    api, http_event, context, caplog
) -> None:
    app = FastAPI()

    def fail() -> None:
        raise RuntimeError("the provider is down")

    @app.get("/")
    def index(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        return "ok"

    with caplog.at_level(logging.ERROR, "twolane"):
        assert api(app)(http_event(), context)["statusCode"] == 200
    (record,) = [r for r in caplog.records if r.name.startswith("twolane")]
    assert record.twolane["event"] == "inline.failed"
    assert "the provider is down" in record.getMessage()


async def _silent(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that never answers."""


async def _half(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


@pytest.mark.parametrize("app", [_silent, _half])
def test_an_application_that_does_not_answer_is_a_500(api, http_event, context, app) -> None:
    response = api(app, lifespan="off")(http_event(), context)
    assert (response["statusCode"], response["body"]) == (500, "Internal Server Error")


def test_a_streamed_body_is_buffered_whole(api, http_event, context) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in (b"a", b"b", b"c"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    assert api(app, lifespan="off")(http_event(), context)["body"] == "abc"
