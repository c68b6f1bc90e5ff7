"""What becomes of each background task: run, given up, told."""

from __future__ import annotations

import asyncio
import threading
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.signals import before_task_publish
from starlette.background import BackgroundTask

from twolane.api.inline import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

tenant: ContextVar[str] = ContextVar("tenant")


class Left:
    """The invocation's remaining seconds, as the test wants them."""

    def __init__(self) -> None:
        self.seconds = 30.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def left() -> Left:
    return Left()


@pytest.fixture
def lane(left: Left) -> Lane:
    return Lane("r-1", lambda: "GET /", left, reserve_s=1.0, watch=lambda lane: None)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[Any, ...]]]:
    """What was said: (event, task or None, reason or None), in order."""
    caplog.set_level("INFO", "twolane")

    def told() -> list[tuple[Any, ...]]:
        fields = [record.twolane for record in caplog.records if hasattr(record, "twolane")]
        assert all(field["requestId"] == "r-1" for field in fields)
        return [(f["event"], f.get("taskName"), f.get("reason")) for f in fields]

    return told


@pytest.fixture
def celery() -> Iterator[Celery]:
    app = Celery("test", broker="memory://", set_as_current=False)
    # kombu keeps the queues of memory:// for the whole process.
    app.conf.task_default_queue = str(uuid.uuid4())
    yield app
    app.close()


def work(func: Callable[[], Any], name: str = "work") -> BackgroundTask:
    func.__module__, func.__qualname__ = "app", name
    return BackgroundTask(func)


async def _run(lane: Lane, *tasks: BackgroundTask) -> None:
    lane.enrol(tasks)
    try:
        for task in tasks:
            await lane.run(task, BackgroundTask.__call__)
    finally:
        lane.end()


def test_a_task_is_told_from_start_to_end(lane, told) -> None:
    ran: list[int] = []
    asyncio.run(_run(lane, work(lambda: ran.append(1))))
    assert ran == [1]
    assert told() == [("inline.started", "app.work", None), ("inline.succeeded", "app.work", None)]


def test_a_failure_is_told_once_and_raised(lane, told) -> None:
    def fail() -> None:
        raise RuntimeError("the provider is down")

    with pytest.raises(RuntimeError) as caught:
        asyncio.run(_run(lane, work(fail, "fail"), work(lambda: None, "next")))
    assert lane.has_told(caught.value)
    assert lane.has_told(ExceptionGroup("unhandled errors in a TaskGroup", [caught.value]))
    assert not lane.has_told(RuntimeError("the provider is down"))
    assert told() == [
        ("inline.started", "app.fail", None),
        ("inline.failed", "app.fail", None),
        ("inline.lost", "app.next", "not started"),
    ]


def test_what_has_not_started_when_the_reserve_is_reached_is_lost_by_name(lane, left, told) -> None:
    def slow() -> None:
        left.seconds = 0.9

    asyncio.run(_run(lane, work(slow, "slow"), work(pytest.fail, "never")))
    assert told()[2:] == [("inline.lost", "app.never", "not started")]


def test_a_celery_task_is_deferred_instead(lane, left, told, celery) -> None:
    @celery.task(name="app.send")
    def send(email: str) -> None:
        pytest.fail("it ran in the inline lane")

    left.seconds = 0.9
    asyncio.run(_run(lane, BackgroundTask(send, "user@example.com")))

    assert told() == [("inline.deferred", "app.send", None)]
    with celery.connection_for_read() as connection:
        message = connection.SimpleQueue(celery.conf.task_default_queue).get(block=False)
        assert message.payload[0] == ["user@example.com"]


def test_a_deferred_task_keeps_its_message_group(lane, left, celery) -> None:
    @celery.task(name="app.send")
    def send(email: str) -> None:
        pytest.fail("it ran in the inline lane")

    left.seconds = 0.9
    work = BackgroundTask(send.apply_async, ("user@example.com",), MessageGroupId="customer-1")
    asyncio.run(_run(lane, work))
    with celery.connection_for_read() as connection:
        message = connection.SimpleQueue(celery.conf.task_default_queue).get(block=False)
        assert message.properties["MessageGroupId"] == "customer-1"


def test_a_celery_task_that_cannot_be_enqueued_is_lost(lane, left, told, celery, caplog) -> None:
    @celery.task(name="app.send")
    def send(value: object) -> None:
        pytest.fail("it ran in the inline lane")

    left.seconds = 0.9
    asyncio.run(_run(lane, BackgroundTask(send, object())))
    assert told() == [("inline.lost", "app.send", "not started")]
    assert "could not be enqueued" in caplog.text


def test_what_comes_after_the_reserve_was_reached_is_given_up_as_well(lane, left, told) -> None:
    async def come_late() -> None:
        left.seconds = 0.9
        lane.close()
        await lane.run(work(pytest.fail, "late"), BackgroundTask.__call__)

    asyncio.run(_run(lane, work(come_late, "first")))
    assert told()[1] == ("inline.lost", "app.late", "not started")


def test_a_task_that_was_added_twice_runs_twice(lane) -> None:
    ran: list[int] = []
    twice = work(lambda: ran.append(1))
    asyncio.run(_run(lane, twice, twice))
    assert ran == [1, 1]


def test_a_task_is_deferred_in_the_context_of_its_request(lane, left, celery) -> None:
    """From the watchdog's thread as well: the message says which request it is from."""
    seen: list[str] = []

    @celery.task(name="app.send")
    def send() -> None:
        pytest.fail("it ran in the inline lane")

    async def request() -> None:
        tenant.set("acme")
        lane.enrol([BackgroundTask(send)])

    def note(**_: Any) -> None:
        seen.append(tenant.get("nobody"))

    before_task_publish.connect(note)
    try:
        asyncio.run(request())
        watchdog = threading.Thread(target=lane.close)
        watchdog.start()
        watchdog.join(30)
    finally:
        before_task_publish.disconnect(note)
    assert seen == ["acme"]


def test_the_watchdog_gives_up_on_what_waits_behind_a_task_that_runs(lane, left, told) -> None:
    """From its own thread: the loop may be blocked by the very task that takes too long."""

    async def blocked() -> None:
        left.seconds = 0.9
        lane.close()
        lane.close()
        left.seconds = 0.1
        lane.last_words()

    asyncio.run(_run(lane, work(blocked, "blocked"), work(pytest.fail, "behind")))
    assert told() == [
        ("inline.started", "app.blocked", None),
        ("inline.lost", "app.behind", "not started"),
        ("inline.lost", "app.blocked", "timeout"),
        ("inline.succeeded", "app.blocked", None),
    ]


def test_asgi_work_that_is_no_task_has_last_words_too(lane, told, caplog) -> None:
    lane.last_words()
    assert told() == [("inline.lost", None, "timeout")]
    assert "The work after the response of GET /" in caplog.text


def test_after_its_end_a_lane_has_nothing_to_say(lane, told) -> None:
    asyncio.run(_run(lane))
    lane.last_words()
    lane.close()
    assert told() == []


def test_a_task_that_was_not_enrolled_is_run_and_watched(left, told) -> None:
    watched: list[Lane] = []
    lane = Lane("r-1", lambda: "GET /", left, reserve_s=1.0, watch=watched.append)
    asyncio.run(lane.run(work(lambda: None), BackgroundTask.__call__))
    assert watched == [lane]
    assert told()[-1] == ("inline.succeeded", "app.work", None)
