"""The execution environment's life: init, its failure, and SIGTERM."""

from __future__ import annotations

import signal

import pytest

SOURCE = """
import asyncio, contextlib, json, os, signal
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from twolane import ApiHandler

def say(what):
    print(json.dumps({"event": what}))

@contextlib.asynccontextmanager
async def lifespan(app):
    if "FAIL" in os.environ:
        raise ValueError("DATABASE_URL is not set")
    say("startup")
    yield {"count": [0]}
    say("shutdown")
    if "FAIL_SHUTDOWN" in os.environ:
        raise ValueError("the pool does not close")
    await asyncio.sleep(float(os.environ.get("SHUTDOWN_S", "0")))

async def count(request):
    request.state.count[0] += 1
    return PlainTextResponse(str(request.state.count[0]))

async def working(request):
    async def work():
        say("working")
        await asyncio.sleep(60)
    return PlainTextResponse("ok", background=BackgroundTask(work))

async def ends_itself(request):
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    return PlainTextResponse("answered")

if "SURVIVE" in os.environ:
    signal.signal(signal.SIGTERM, lambda number, frame: say("survived"))

async def forks(request):
    if os.fork():
        os.wait()
        return PlainTextResponse("parent")
    return PlainTextResponse("child")

if "DEFAULT_TIMEOUT" in os.environ:
    import socket
    socket.setdefaulttimeout(float(os.environ["DEFAULT_TIMEOUT"]))

routes = [Route(f"/{f.__name__}", f) for f in (count, working, ends_itself, forks)]
handler = ApiHandler(Starlette(routes=routes, lifespan=lifespan))
"""


def test_the_lifespan_starts_in_the_init_and_its_state_is_shared(service, environment, get) -> None:
    env = environment(SOURCE)
    service.wait_idle()
    env.line("startup")
    assert [service.invoke(get("/count")).response["body"] for _ in range(3)] == ["1", "2", "3"]
    assert env.events().count("startup") == 1


def test_a_failing_startup_is_an_init_error_with_its_cause(service, environment) -> None:
    env = environment(SOURCE, FAIL="1")
    assert env.process.wait(30) == 1
    assert service.init_error is not None
    assert service.init_error["errorType"] == "LifespanFailure"
    assert "DATABASE_URL is not set" in service.init_error["errorMessage"]
    assert service.extensions == 0, "an extension of an environment that failed its init"


def test_sigterm_runs_the_shutdown(service, environment, get) -> None:
    env = environment(SOURCE)
    assert service.invoke(get("/count")).ended.wait(30)
    service.wait_idle()
    env.process.terminate()
    assert env.process.wait(30) == -signal.SIGTERM
    env.line("shutdown")


def test_sigterm_while_work_goes_on_runs_the_shutdown_beside_it(service, environment, get) -> None:
    env = environment(SOURCE)
    service.invoke(get("/working"))
    env.line("working")
    env.process.terminate()
    assert env.process.wait(30) == -signal.SIGTERM
    env.line("shutdown")


def test_sigterm_in_the_middle_of_a_request_lets_it_answer(service, environment, get) -> None:
    env = environment(SOURCE)
    invocation = service.invoke(get("/ends_itself"))
    assert invocation.response["body"] == "answered"
    assert env.process.wait(30) == -signal.SIGTERM
    env.line("shutdown")


@pytest.mark.parametrize("environ", [{"FAIL_SHUTDOWN": "1"}, {"SHUTDOWN_S": "60"}])
def test_a_shutdown_that_fails_or_hangs_is_told_and_ends_all_the_same(
    service, environment, environ
) -> None:
    env = environment(SOURCE, **environ)
    service.wait_idle()
    env.process.terminate()
    assert env.process.wait(30) == -signal.SIGTERM
    assert "shutdown" in env.line("environment.shutdown-failed")["message"]


def test_a_handler_of_the_application_that_lets_the_process_live_has_its_way(
    service, environment, get
) -> None:
    env = environment(SOURCE, SURVIVE="1")
    service.wait_idle()
    env.process.terminate()
    env.line("survived")
    env.line("shutdown")
    assert service.invoke(get("/count")).response["body"] == "1"
    assert len(env.await_line("startup", count=2)) == 2


@pytest.mark.slow
def test_the_applications_default_timeout_is_not_the_extensions(environment, service, get) -> None:
    one = environment(SOURCE, DEFAULT_TIMEOUT="0.2")
    assert service.invoke(get("/count")).response["body"] == "1"
    service.wait_idle()
    # Longer than its four attempts would have taken.
    assert one.await_line("extension.failed", timeout_s=3.0) == []
    second = service.invoke(get("/count"), timeout_s=5.0)
    assert second.response["body"] == "2"
    assert second.ended.wait(5.0), "the extension holds the environment"


def test_an_extension_that_gets_no_events_ends_the_environment(environment, service, get) -> None:
    one = environment(SOURCE)
    assert service.invoke(get("/count")).response["body"] == "1"
    service.wait_idle()
    service.break_extension()
    one.line("extension.lost")
    assert one.process.wait(20) == 69


def test_a_forked_child_answers_nobody(environment, service, get) -> None:
    environment(SOURCE)
    forked = service.invoke(get("/forks"))
    assert forked.response["body"] == "parent"
    assert forked.posts == 1
    assert service.invoke(get("/count")).response["body"] == "1"
