"""A small application whose handlers are objects, and its stack."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from celery import Celery
from fastapi import BackgroundTasks, FastAPI
from tests.twolane_local.testing.sessions import Sessions

from twolane import ApiHandler, BeatHandler, WorkerHandler
from twolane_local.testing import application_code as code
from twolane_local.testing.project import of_handlers, queue_url
from twolane_local.testing.stack import Twolane
from twolane_local.testing.stores import URL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

from twolane_local.testing.project import Project

_DAY = 86_400.0

#: A template with a table whose items expire; more resources may follow.
TABLE = """
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}
"""


class Application(NamedTuple):
    """``calls`` is what tasks and background tasks leave: name and time of each."""

    celery: Celery
    api: Any
    worker: Any
    beat: Any
    calls: list[tuple[str, float]]


def celery_app(queue: str = "tasks", **conf: Any) -> Celery:
    app = Celery("small", set_as_current=False)
    app.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {queue: {"url": queue_url(queue)}},
            "sqs_base64_encoding": False,
        },
        task_default_queue=queue,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_backend=URL,
        result_extended=True,
        task_track_started=True,
        **conf,
    )
    return app


def tasks(calls: list[tuple[str, float]]) -> Celery:
    celery = celery_app(
        beat_schedule={"hourly": {"task": "small.note", "schedule": 3600, "args": ("hourly",)}}
    )

    @celery.task(shared=False, name="small.note")
    def note(name: str) -> str:
        calls.append((name, time.time()))
        return name

    @celery.task(shared=False, name="small.slow")
    def slow(seconds: float) -> None:
        calls.append(("slow begins", time.time()))
        time.sleep(seconds)
        calls.append(("slow ends", time.time()))

    @celery.task(shared=False, name="small.chain", bind=True, max_retries=100)
    def chain(self: Any, times: int) -> int:
        calls.append((f"attempt {self.request.retries}", time.time()))
        if self.request.retries < times:
            raise self.retry(countdown=_DAY / times)
        return int(self.request.retries)

    @celery.task(shared=False, name="small.again")
    def again() -> None:
        celery.send_task("small.again", countdown=600)

    @celery.task(
        shared=False, name="small.broken", acks_late=True, acks_on_failure_or_timeout=False
    )
    def broken() -> None:
        raise ValueError("it is broken")

    return celery


def routes(celery: Celery, calls: list[tuple[str, float]]) -> FastAPI:
    api = FastAPI()

    @api.post("/notes/{name}")
    def publish(name: str, countdown: float = 0) -> dict[str, str]:
        return {"id": celery.send_task("small.note", (name,), countdown=countdown).id}

    @api.post("/run/{task}")
    def run(task: str, args: list[Any]) -> dict[str, str]:
        return {"id": celery.send_task(f"small.{task}", args).id}

    @api.get("/now")
    async def now() -> dict[str, float]:
        return {"now": time.time()}

    @api.get("/sleep/{seconds}")
    async def sleep(seconds: float) -> dict[str, float]:
        await asyncio.sleep(seconds)
        return {"now": time.time()}

    @api.post("/inline/{seconds}")
    async def inline(seconds: float, background: BackgroundTasks, how: str = "async") -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            calls.append(("inline", time.time()))

        def later_in_thread() -> None:
            time.sleep(seconds)
            calls.append(("inline", time.time()))

        background.add_task(later if how == "async" else later_in_thread)

    return api


@pytest.fixture(scope="session")
def application() -> Iterator[Application]:
    calls: list[tuple[str, float]] = []
    celery = tasks(calls)
    handlers = ApiHandler(routes(celery, calls)), WorkerHandler(celery), BeatHandler(celery)
    yield Application(celery, *handlers, calls)
    code.close()
    if id(handlers[0]) not in code._dead:
        handlers[0].close()


@pytest.fixture
def project(application: Application) -> Project:
    application.calls.clear()
    return of_handlers(api=application.api, worker=application.worker, beat=application.beat)


@pytest.fixture
def make(project: Project) -> Iterator[Callable[..., Twolane]]:
    """Makes stacks of the small application, and takes them down."""
    made: list[Twolane] = []

    def make(given: Project = project, **options: Any) -> Twolane:
        made.append(Twolane(given, **options))
        return made[-1]

    yield make
    for stack in reversed(made):
        stack.close()


@pytest.fixture
def stack(make: Callable[..., Twolane]) -> Twolane:
    return make()


@pytest.fixture
def sessions(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    # The expanded template is the same each time.
    return Sessions(tmp_path, tmp_path_factory.getbasetemp().parent / "twolane-cache")
