"""Work after the response, with the real ``awslambdaric`` between the handler and the two APIs."""

from __future__ import annotations

from typing import Any

import pytest

#: One application for all: each route is one thing that may go on after a response. ``say`` writes
#: a line with the time at which it was written, on the clock that this process shares.
SOURCE = """
import asyncio, contextvars, json, os, threading, time
from awslambdaric import lambda_runtime_client
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from twolane import ApiHandler

name = contextvars.ContextVar("name", default=None)

def say(what, **fields):
    thread = threading.current_thread().name
    print(json.dumps({"event": what, "at": time.monotonic(), "thread": thread, **fields}))

async def plain(request):
    return PlainTextResponse("ok")

async def work(request):
    return PlainTextResponse("ok", background=BackgroundTask(say, "work"))

async def slow(request):
    async def nap():
        say("slow.started")
        await asyncio.sleep(float(request.query_params["s"]))
        say("slow.ended")
    return PlainTextResponse("ok", background=BackgroundTask(nap))

async def big(request):
    async def at_once():
        say("work")
    return PlainTextResponse("x" * 4_000_000, background=BackgroundTask(at_once))

async def several(request):
    name.set("of the request")
    tasks = BackgroundTasks()
    async def first():
        await asyncio.sleep(0.01)
        say("first", name=name.get())
    tasks.add_task(first)
    tasks.add_task(lambda: say("second", name=name.get()))
    tasks.add_task(say, "third")
    return PlainTextResponse("ok", background=tasks)

async def fail(request):
    def broken():
        raise RuntimeError("the provider is down")
    tasks = BackgroundTasks()
    tasks.add_task(broken)
    tasks.add_task(say, "never")
    return PlainTextResponse("ok", background=tasks)

async def leave(request):
    def out():
        raise SystemExit(3)
    return PlainTextResponse("ok", background=BackgroundTask(out))

class SlowMarshaller(LambdaMarshaller):
    # Serialises any response as slowly as a function with little memory does a big one.
    def marshal_response(self, response):
        time.sleep(float(os.environ.get("SERIALISE_S", "0")))
        return super().marshal_response(response)

base = getattr(lambda_runtime_client, "BaseLambdaRuntimeClient", None)  # since 4.0
(base or lambda_runtime_client.LambdaRuntimeClient).marshaller = SlowMarshaller()

app = Starlette(routes=[
    Route(f"/{f.__name__}", f, methods=["GET"])
    for f in (plain, work, slow, big, several, fail, leave)
])
handler = ApiHandler(app)
"""


def test_work_starts_only_after_a_response_of_4_mb_has_left(service, environment, get) -> None:
    env = environment(SOURCE, SERIALISE_S="0.2")
    early: list[Any] = []

    def hold_the_post() -> None:
        # The runtime has begun to post and cannot end: what did not wait is there by now, or comes.
        early.extend(env.await_line("work", timeout_s=0.5))

    service.while_posting = hold_the_post
    invocation = service.invoke(get("/big"))

    assert len(invocation.response["body"]) == 4_000_000
    assert early == []
    assert env.line("work")["at"] > invocation.posted


def test_the_response_does_not_wait_for_the_work_and_the_environment_does(
    service, environment, get
) -> None:
    env = environment(SOURCE)
    invocation = service.invoke(get("/slow", "s=0.5"))

    assert invocation.response["body"] == "ok"
    assert not invocation.ended.is_set(), "frozen before the work was done"
    assert invocation.ended.wait(30)
    ended = env.line("slow.ended")["at"]
    assert ended > env.line("slow.started")["at"] > invocation.posted
    assert env.line("inline.succeeded")["requestId"] == invocation.request_id


def test_a_request_without_work_ends_at_once_and_many_follow(service, environment, get) -> None:
    environment(SOURCE)
    for path in ("/plain", "/work") * 10:
        invocation = service.invoke(get(path))
        assert invocation.response["statusCode"] == 200
    assert invocation.ended.wait(30)


def test_tasks_run_in_order_each_in_the_context_of_its_request(service, environment, get) -> None:
    env = environment(SOURCE)
    assert service.invoke(get("/several")).ended.wait(30)
    env.line("third")

    said = [line for line in env.lines if line.get("event") in {"first", "second", "third"}]
    assert [line["event"] for line in said] == ["first", "second", "third"]
    assert [line["name"] for line in said[:2]] == ["of the request"] * 2


@pytest.mark.parametrize("path", ["/fail", "/leave"])
def test_an_exception_in_the_work_is_logged_and_the_next_invocations_are_served(
    service, environment, get, path
) -> None:
    env = environment(SOURCE)
    broken = service.invoke(get(path))
    assert broken.response["statusCode"] == 200
    assert broken.ended.wait(30), "the extension was left waiting"
    for _ in range(3):
        assert service.invoke(get("/work")).ended.wait(30)

    failed = env.line("inline.failed")
    assert failed["requestId"] == broken.request_id
    assert failed["level"] == "ERROR"
    assert "stackTrace" in failed
    assert "never" not in env.events(), "what follows a failure does not run, as under uvicorn"


def test_an_error_of_the_handler_itself_leaves_the_extension_free(
    service, environment, get
) -> None:
    environment(SOURCE)
    failed = service.invoke({"what": "is this"})
    assert failed.failed
    assert failed.ended.wait(30)
    assert service.invoke(get("/work")).ended.wait(30)


def test_where_the_extension_is_refused_the_work_is_done_before_the_response(
    service, environment, get
) -> None:
    service.refuse_extensions = True
    env = environment(SOURCE)
    invocation = service.invoke(get("/slow", "s=0.01"))

    assert env.line("slow.ended")["at"] < invocation.posted
    assert env.line("extension.refused")["level"] == "WARNING"
