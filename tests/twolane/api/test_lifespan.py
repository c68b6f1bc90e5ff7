"""The lifespan protocol: what counts as started, failed, unsupported."""

from __future__ import annotations

from typing import Any

import pytest
from mangum.exceptions import LifespanFailure


async def _answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def unsupporting(scope: Any, receive: Any, send: Any) -> None:
    """Takes everything for a request, as the simplest applications do."""
    await _answer(send)


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await _answer(send)


async def raising(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        raise ValueError("no DATABASE_URL")
    await _answer(send)


async def failing(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no DATABASE_URL"})
    else:
        await _answer(send)


@pytest.mark.parametrize("app", [unsupporting, refusing, raising])
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_an_application_without_a_lifespan_is_served(api, http_event, context, app, mode) -> None:
    assert api(app, lifespan=mode)(http_event(), context)["body"] == "ok"


def test_a_lifespan_that_is_off_is_never_asked_for(api, http_event, context) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await _answer(send)

    handler = api(app, lifespan="off")
    handler(http_event(), context)
    handler.close()
    assert [scope["type"] for scope in scopes] == ["http"]
    assert "state" not in scopes[0]


@pytest.mark.parametrize("app", [unsupporting, refusing, raising, failing])
def test_a_lifespan_that_has_to_be_on_and_is_not_fails_the_init(api, app) -> None:
    """Mangum serves the application all the same when it raises; uvicorn does not start."""
    with pytest.raises(LifespanFailure):
        api(app, lifespan="on")


def test_a_startup_that_says_it_failed_fails_the_init(api) -> None:
    with pytest.raises(LifespanFailure, match="no DATABASE_URL"):
        api(failing, lifespan="auto")


@pytest.mark.parametrize("app", [unsupporting, refusing, raising])
def test_there_is_nothing_to_shut_down_then(api, app) -> None:
    handler = api(app)
    handler.close()
    handler.close()


def test_a_failing_shutdown_is_raised_where_somebody_asked_for_it(api) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the pool does not close"})

    handler = api(app)
    with pytest.raises(LifespanFailure, match="the pool does not close"):
        handler.close()


def test_created_inside_of_a_running_loop_it_starts_with_the_first_request(
    api, http_event, context
) -> None:
    """As in a test that imports the handler's module from a coroutine."""
    import asyncio

    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await _answer(send)
            return
        seen.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    async def build() -> Any:
        return api(app)

    handler = asyncio.run(build())
    assert seen == []
    for _ in range(2):
        handler(http_event(), context)
    assert seen == ["lifespan.startup"]
