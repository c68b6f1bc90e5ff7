"""The wrap around Starlette's background tasks."""

from __future__ import annotations

import asyncio
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from celery import Celery
from fastapi import BackgroundTasks as BackgroundTasksOfFastAPI
from fastapi import FastAPI
from starlette.background import BackgroundTask, BackgroundTasks

from twolane.api import inline
from twolane.patches import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane import ApiHandler


def _lane() -> inline.Lane:
    return inline.Lane("r-1", lambda: "GET /", lambda: 30.0, reserve_s=1.0, watch=lambda lane: None)


def test_outside_of_a_request_of_ours_nothing_changes(caplog) -> None:
    assert serving.enter_lanes(inline.current)
    ran: list[int] = []
    tasks = BackgroundTasks([BackgroundTask(ran.append, 1)])
    tasks.add_task(ran.append, 2)
    with caplog.at_level("INFO", "twolane"):
        asyncio.run(tasks())
    assert ran == [1, 2]
    assert caplog.records == []


def test_in_a_request_each_task_is_run_in_its_lane(caplog) -> None:
    assert serving.enter_lanes(inline.current)
    lane, ran = _lane(), []
    tasks = BackgroundTasks([BackgroundTasks([BackgroundTask(ran.append, 1)])])
    tasks.add_task(ran.append, 2)
    context = copy_context()
    context.run(inline.current.set, lane)
    with caplog.at_level("INFO", "twolane"):
        context.run(asyncio.run, tasks())
    assert ran == [1, 2]
    events = [record.twolane["event"] for record in caplog.records]
    assert events == ["inline.started", "inline.succeeded"] * 2


def test_an_async_def_task_of_celerys_is_awaited(
    api: Callable[..., ApiHandler], http_event: Callable[..., dict[str, Any]], context: Any, caplog
) -> None:
    """Celery's task is no coroutine function: stock Starlette drops its coroutine."""
    celery = Celery("inline", broker="memory://", set_as_current=False)
    ran: list[object] = []

    @celery.task(shared=False)
    async def note(x: int) -> None:
        await asyncio.sleep(0)
        ran.append(x)

    @celery.task(shared=False, bind=True)
    async def bound(self: Any, x: int) -> None:
        await asyncio.sleep(0)
        ran.append((self.name, x))

    app = FastAPI()

    @app.get("/")
    async def add(background_tasks: BackgroundTasksOfFastAPI) -> None:
        background_tasks.add_task(note, 1)
        background_tasks.add_task(bound, x=2)

    handler = api(app)
    with caplog.at_level("INFO", "twolane"):
        assert handler(http_event(), context)["statusCode"] == 200
    assert ran == [1, (bound.name, 2)]
    events = [record.twolane["event"] for record in caplog.records if hasattr(record, "twolane")]
    assert events.count("inline.succeeded") == 2


def test_it_is_wrapped_once() -> None:
    serving.enter_lanes(inline.current)
    call = BackgroundTask.__call__
    serving.enter_lanes(inline.current)
    assert BackgroundTask.__call__ is call


def test_without_starlette_there_is_nothing_to_wrap(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "starlette.background")
    assert not serving.enter_lanes(inline.current)
    assert "starlette.background" not in sys.modules, "it must not be imported"
