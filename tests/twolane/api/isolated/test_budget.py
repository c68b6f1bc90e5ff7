"""The inline lane's budget, where Lambda would kill: with the real clock, loop and threads."""

from __future__ import annotations

SOURCE = '''
import time
from celery import Celery
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from twolane import ApiHandler

celery = Celery("app", broker="memory://")

@celery.task(name="app.send")
def send(email):
    raise AssertionError("it ran in the inline lane")

def plain():
    raise AssertionError("it ran after its time")

async def blocking():
    time.sleep(60)  # what no task should do: nothing else gets a turn on the loop

async def blocked(request):
    tasks = BackgroundTasks()
    tasks.add_task(blocking)
    tasks.add_task(send, "user@example.com")
    tasks.add_task(plain)
    return PlainTextResponse("ok", background=tasks)

async def raw(scope, receive, send):
    """An ASGI application without any framework."""
    import asyncio
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
    await asyncio.sleep(60)

handler = ApiHandler(Starlette(routes=[Route("/blocked", blocked)]))
bare = ApiHandler(raw, lifespan="off")
'''


def test_a_task_that_blocks_everything_takes_nothing_with_it(service, environment, get) -> None:
    env = environment(SOURCE)
    service.wait_idle()
    invocation = service.invoke(get("/blocked"), timeout_s=2.0)

    assert invocation.response["body"] == "ok"
    deferred = env.line("inline.deferred")
    assert deferred["taskName"] == "app.send"
    assert deferred["taskId"]
    lost = env.line("inline.lost", reason="not started")
    assert lost["taskName"] == "served.plain"
    killed = env.line("inline.lost", reason="timeout")
    assert killed["taskName"] == "served.blocking"
    assert {line["requestId"] for line in (deferred, lost, killed)} == {invocation.request_id}


def test_work_that_is_no_background_task_is_told_before_the_kill(service, environment, get) -> None:
    env = environment(SOURCE, HANDLER="served.bare")
    service.wait_idle()
    assert service.extensions == 1, "two handlers in a module are one environment"
    invocation = service.invoke(get("/raw"), timeout_s=2.0)

    assert invocation.response["statusCode"] == 200
    killed = env.line("inline.lost", reason="timeout")
    assert "GET /raw" in killed["message"]
