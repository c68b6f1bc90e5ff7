"""What an application sees before and after its response is what it sees under uvicorn.

Each route leaves a trace. The same requests are made to a real uvicorn, to a handler that waits for
the work, and to one that leaves it to the extension; all three traces have to be equal.
"""

import asyncio
import contextlib
import contextvars
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from ...installed import since  # noqa: TID252

pytestmark = pytest.mark.skipif(
    not since("starlette", 0, 32), reason="an older middleware holds a response back for its tasks"
)

ROUTES = [
    "/order", "/sync", "/failing", "/dependency", "/failing-with-dependency", "/http-error",
    "/endpoint-error", "/context", "/several", "/response-background", "/stream", "/disconnect",
    "/middleware", "/missing", "/nested", "/later", "/group",
]  # fmt: skip

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


def build(trace: list[str]) -> FastAPI:  # noqa: C901, PLR0915 -- one route after the other
    """The application, which says what it does to ``trace``."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        trace.append("startup")
        yield
        trace.append("shutdown")

    app = FastAPI(lifespan=lifespan)
    say = trace.append

    async def say_later(what: str) -> None:
        await asyncio.sleep(0.001)
        say(what)

    async def resource() -> AsyncIterator[str]:
        say("open")
        try:
            yield "resource"
        except RuntimeError as exc:
            say(f"resource saw {exc}")
            raise
        finally:
            await asyncio.sleep(0)
            say("close")

    def sync_resource() -> Iterator[str]:
        say("open sync")
        yield "sync"
        say("close sync")

    async def set_tenant() -> None:
        tenant.set("acme")

    resource_of = Annotated[str, Depends(resource)]

    def boom() -> None:
        say("boom")
        raise RuntimeError("boom")

    @app.get("/order")
    async def order(tasks: BackgroundTasks) -> str:
        tasks.add_task(say_later, "1 async")
        tasks.add_task(say, "2 sync")
        tasks.add_task(say_later, "3 async")
        say("endpoint")
        return "ok"

    @app.get("/sync")
    def sync(tasks: BackgroundTasks, value: Annotated[str, Depends(sync_resource)]) -> str:
        tasks.add_task(say, f"work with {value}")
        return "ok"

    @app.get("/failing")
    async def failing(tasks: BackgroundTasks) -> str:
        tasks.add_task(say, "before")
        tasks.add_task(boom)
        tasks.add_task(say, "never")
        return "ok"

    @app.get("/dependency")
    async def dependency(tasks: BackgroundTasks, value: resource_of) -> str:
        tasks.add_task(say_later, f"work with {value}")
        return "ok"

    @app.get("/failing-with-dependency")
    async def failing_with_dependency(tasks: BackgroundTasks, value: resource_of) -> str:
        tasks.add_task(boom)
        return "ok"

    @app.get("/http-error")
    async def http_error(tasks: BackgroundTasks, value: resource_of) -> str:
        tasks.add_task(say, "work of a refused request")
        raise HTTPException(409, "conflict")

    @app.get("/endpoint-error")
    async def endpoint_error(tasks: BackgroundTasks, value: resource_of) -> str:
        tasks.add_task(say, "work of a broken request")
        raise RuntimeError("broken")

    @app.get("/context", dependencies=[Depends(set_tenant)])
    async def context(tasks: BackgroundTasks) -> str:
        async def tell() -> None:
            say(f"async for {tenant.get()}")
            tenant.set("changed by a task")

        tasks.add_task(tell)
        tasks.add_task(lambda: say(f"sync for {tenant.get()}"))
        return tenant.get()

    @app.get("/several")
    async def several(request: Request) -> JSONResponse:
        return JSONResponse(tenant.get(), background=BackgroundTask(say, tenant.get()))

    @app.get("/response-background")
    async def response_background(tasks: BackgroundTasks) -> PlainTextResponse:
        tasks.add_task(say, "of the parameter")
        return PlainTextResponse("ok", background=BackgroundTask(say, "of the response"))

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for part in "abc":
                say(f"part {part}")
                yield part
            say("last part")

        return StreamingResponse(parts(), background=BackgroundTask(say, "after the stream"))

    @app.get("/disconnect")
    async def disconnect(request: Request) -> PlainTextResponse:
        async def tell() -> None:
            message = await request.receive()
            say(message["type"])

        return PlainTextResponse("ok", background=BackgroundTask(tell))

    @app.get("/nested")
    async def nested(tasks: BackgroundTasks) -> str:
        inner = BackgroundTasks()
        inner.add_task(say, "inner")
        inner.add_task(tasks.add_task, say, "added by a task")
        tasks.add_task(say, "outer")
        tasks.tasks.append(inner)
        return "ok"

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        async def spawn() -> None:
            await asyncio.gather(say_later("gathered 1"), say_later("gathered 2"))

        tasks.add_task(spawn)
        return "ok"

    @app.get("/group")
    async def group(tasks: BackgroundTasks, value: resource_of) -> str:
        async def fail_later() -> None:
            await say_later("in a group")
            boom()

        async def grouped() -> None:
            async with asyncio.TaskGroup() as running:
                running.create_task(fail_later())
                running.create_task(asyncio.sleep(60))

        tasks.add_task(grouped)
        return "ok"

    @app.get("/middleware")
    async def middleware(tasks: BackgroundTasks) -> str:
        tasks.add_task(say_later, "work below the middleware")
        return "ok"

    async def around(request: Request, call_next: Any) -> Any:
        if request.url.path != "/middleware":
            return await call_next(request)
        say("before")
        response = await call_next(request)
        say("after")
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=around)
    return app


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[Callable[[str], httpx.Response]]:
    """A real uvicorn in a thread: ``get(path)`` returns when the ASGI call is over."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, log_level="critical", timeout_keep_alive=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        over = threading.Event()

        def get(path: str) -> httpx.Response:
            response = httpx.get(url + path)
            while server.server_state.tasks:
                over.wait(0.001)
            return response

        try:
            yield get
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def expected() -> dict[str, list[str]]:
    """The trace of each route under uvicorn."""
    trace: list[str] = []
    traces: dict[str, list[str]] = {}
    with serving(build(trace)) as get:
        for route in ROUTES:
            response = get(route)
            before = ["startup"] if route == ROUTES[0] else []
            traces[route] = [f"{response.status_code} {response.text}", *trace[len(before) :]]
            trace.clear()
    assert trace == ["shutdown"]
    return traces


def test_uvicorn_itself_does_what_these_tests_are_about(expected) -> None:
    assert expected["/order"] == ['200 "ok"', "endpoint", "1 async", "2 sync", "3 async"]
    assert expected["/failing"] == ['200 "ok"', "before", "boom"]
    assert expected["/dependency"] == ['200 "ok"', "open", "work with resource", "close"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_handler_that_waits_is_like_uvicorn(api, http_event, context, expected, route) -> None:
    trace: list[str] = []
    handler = api(build(trace))
    trace.clear()
    response = handler(http_event(path=route), context)
    assert [f"{response['statusCode']} {response['body']}", *trace] == expected[route]


@pytest.mark.parametrize("route", ROUTES)
def test_a_handler_that_leaves_the_work_is_like_uvicorn(
    held, http_event, context, expected, route
) -> None:
    trace: list[str] = []
    handler = held(build(trace))
    trace.clear()
    response = handler(http_event(path=route), context)
    handler.finish(context)
    assert [f"{response['statusCode']} {response['body']}", *trace] == expected[route]


def test_requests_do_not_leak_into_each_other(held, http_event, context) -> None:
    """A context variable that a request sets is gone with it, also with the work in between."""
    trace: list[str] = []
    handler = held(build(trace))
    for route in ("/context", "/several"):
        handler(http_event(path=route), context)
        handler.finish(context)
    assert trace == ["startup", "async for acme", "sync for changed by a task", "none"]
    assert tenant.get() == "none"
