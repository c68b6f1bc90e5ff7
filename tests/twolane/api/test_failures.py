"""What an application raises: one line each, with its traceback, its request and its status."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse

from twolane.environment.logs import JsonFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator


class OddError(Exception):
    """One with a handler of the application's."""


def fails(text: str) -> None:
    raise RuntimeError(text)


def make() -> FastAPI:
    app = FastAPI()

    def leaves() -> Iterator[None]:
        yield
        fails("the dependency")

    def parts() -> Iterator[str]:
        yield "a"
        fails("the stream")

    @app.get("/endpoint")
    async def endpoint() -> None:
        fails("the endpoint")

    @app.get("/sync")
    def sync() -> None:
        fails("the sync endpoint")

    @app.get("/dependency")
    def dependency(it: None = Depends(leaves)) -> None:
        return None

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    @app.get("/handler")
    def handled() -> None:
        raise OddError

    @app.exception_handler(OddError)
    async def odd(request: Any, error: Any) -> None:
        fails("the exception handler")

    @app.get("/background")
    def background(tasks: BackgroundTasks) -> None:
        tasks.add_task(fails, "the background task")

    return app


async def middleware(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that is no framework's."""
    fails("the middleware")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/endpoint", 500, "500 GET /endpoint failed: RuntimeError('the endpoint')"),
        ("/sync", 500, "500 GET /sync failed: RuntimeError('the sync endpoint')"),
        ("/handler", 500, "500 GET /handler failed: RuntimeError('the exception handler')"),
        ("/stream", 500, "500 GET /stream failed: RuntimeError('the stream')"),
        (
            "/dependency", 200,
            "200 GET /dependency answered, then failed: RuntimeError('the dependency')",
        ),
        ("/middleware", 500, "500 GET /middleware failed: RuntimeError('the middleware')"),
    ],
)  # fmt: skip
def test_a_request_fails_in_one_line(  # noqa: PLR0917 (fixtures)
    api, http_event, context, caplog, path: str, status: int, text: str
) -> None:
    app = middleware if path == "/middleware" else make()
    assert api(app, lifespan="off")(http_event(path=path), context)["statusCode"] == status
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == f"! {text}"
    assert (line["event"], line["level"], line["status"]) == ("request.failed", "ERROR", status)
    assert (line["method"], line["path"]) == ("GET", path)
    assert line["requestId"] == context.aws_request_id
    assert line["errorType"] == "RuntimeError"
    assert "in fails" in line["stackTrace"]


def test_a_background_tasks_failure_is_of_the_work_after_the_response(
    api, http_event, context, caplog
) -> None:
    assert api(make())(http_event(path="/background"), context)["statusCode"] == 200
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    line = json.loads(JsonFormatter().format(record))
    assert line["event"] == "inline.failed"
    assert line["taskName"].endswith(".fails")
    assert "in fails" in line["stackTrace"]


def test_a_failed_request_is_a_metric_of_its_own(api, http_event, context, caplog, monkeypatch):
    assert api(make())(http_event(path="/endpoint"), context)["statusCode"] == 500
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop-api")
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    line = json.loads(JsonFormatter().format(record))
    assert line["RequestsFailed"] == 1
    assert "InlineFailed" not in line


@pytest.mark.parametrize("path", ["/endpoint", "/stream", "/dependency"])
def test_a_disabled_logger_does_not_hide_it(api, http_event, context, caplog, path: str) -> None:
    """``dictConfig`` disables loggers that were there before, unless it is told otherwise."""
    disabled = [logging.getLogger(name) for name in ("twolane", "twolane.api", "mangum.http")]
    with contextlib.ExitStack() as undo:
        for each in disabled:
            undo.callback(setattr, each, "disabled", each.disabled)
            each.disabled = True
        api(make())(http_event(path=path), context)
    assert [each.twolane["event"] for each in caplog.records] == ["request.failed"]
