"""Tasks that publish themselves without end: refused where deep and fast, and only there."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group

from .conftest import MAX_RECEIVE_COUNT, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery


def limit(app: Celery, depth: int, rate: float) -> None:
    app.conf.update(twolane_max_depth=depth, twolane_max_depth_rate=rate)


def test_a_loop_without_an_end_is_dead_lettered(
    app: Celery, lane: Callable[..., Lane], caplog: pytest.LogCaptureFixture
) -> None:
    limit(app, 5, 60)
    ids: list[str] = []

    @app.task(shared=False, bind=True)
    def again(self: Any) -> None:
        ids.append(again.delay().id)

    worker = lane()
    again.delay()
    with caplog.at_level(logging.INFO, logger="twolane.worker"):
        worker.drain()
    assert len(ids) == 5  # and the fifth of those was not run
    assert worker.is_empty
    (dead,) = worker.dead_letters()
    assert json.loads(dead)["headers"]["twolane_depth"] == 5
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == MAX_RECEIVE_COUNT
    assert "is task 6 in a line of tasks" in said[0]
    assert "raise twolane_max_depth" in said[0]
    told = [vars(record).get("twolane", {}) for record in caplog.records]
    rejected = [each for each in told if each.get("event") == "task.rejected"]
    assert {each["taskId"] for each in rejected} == {ids[-1]}
    # Who waits for it hears of it.
    last = app.AsyncResult(ids[-1])
    assert last.state == "FAILURE"
    assert type(last.result).__name__ == "RunawayError"
    assert app.AsyncResult(ids[-2]).state == "SUCCESS"


def test_retries_without_an_end_too(app: Celery, lane: Callable[..., Lane]) -> None:
    limit(app, 5, 60)
    tried: list[int] = []

    @app.task(shared=False, bind=True, max_retries=None)
    def again(self: Any) -> None:
        tried.append(self.request.retries)
        raise self.retry(countdown=0)

    worker = lane()
    result = again.delay()
    worker.run(30)
    assert tried == [0, 1, 2, 3, 4]
    assert result.state == "FAILURE"
    assert len(worker.dead_letters()) == 1


def test_slow_enough_it_goes_on_for_ever(app: Celery, lane: Callable[..., Lane]) -> None:
    limit(app, 5, 60)
    ran: list[int] = []

    @app.task(shared=False, bind=True)
    def tick(self: Any) -> None:
        ran.append(getattr(self.request, "twolane_depth", 0))
        if len(ran) < 25:
            tick.apply_async(countdown=2)

    worker = lane()
    tick.delay()
    worker.run(60)
    assert ran == list(range(25))
    assert worker.dead_letters() == []


def test_a_slow_line_that_turns_into_a_loop_is_stopped(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    limit(app, 5, 60)
    ran: list[int] = []

    @app.task(shared=False)
    def tick() -> None:
        ran.append(1)
        tick.apply_async(countdown=2 if len(ran) < 22 else 0)

    worker = lane()
    tick.delay()
    worker.run(60)
    # It is looked at after each five generations; the fifth five were the first fast ones.
    assert len(ran) == 25
    assert len(worker.dead_letters()) == 1


def test_redriven_it_goes_on(app: Celery, lane: Callable[..., Lane]) -> None:
    limit(app, 3, 60)
    left = [8]

    @app.task(shared=False)
    def again() -> None:
        left[0] -= 1
        if left[0]:
            again.delay()

    worker = lane()
    again.delay()
    worker.drain()
    assert left == [5]
    for rest in (2, 0):  # a person took longer than the three generations may have taken
        worker.pass_time(100)
        (body,) = worker.dead_letters()
        worker.sqs.purge_queue(QueueUrl=worker.dead_url)
        worker.sqs.send_message(QueueUrl=worker.url, MessageBody=body)
        worker.drain()
        assert left == [rest]
    assert worker.dead_letters() == []


def test_the_depth_survives_all_that_publishes(app: Celery, lane: Callable[..., Lane]) -> None:
    depths: dict[str, int] = {}

    @app.task(shared=False, bind=True)
    def note(self: Any, *_: Any, name: str) -> None:
        depths[name] = getattr(self.request, "twolane_depth", 0)

    @app.task(shared=False, bind=True)
    def retried(self: Any) -> None:
        if self.request.retries < 3:
            raise self.retry(countdown=1)
        depths["retried"] = self.request.twolane_depth

    @app.task(shared=False, bind=True)
    def replaced(self: Any) -> None:
        raise self.replace(note.s(name="replacement"))

    @app.task(shared=False)
    def parent() -> None:
        note.apply_async(kwargs={"name": "late"}, countdown=2000)
        group(note.s(name="in a group"), note.s(name="in it too")).delay()

    worker = lane()
    chain(*(note.s(name=f"link {number}") for number in range(4))).delay()
    chord([note.s(name="header")], note.s(name="body")).delay()
    for task in (retried, replaced, parent):
        task.delay()
    worker.run(2100, step=50)
    assert depths == {
        "link 0": 0, "link 1": 1, "link 2": 2, "link 3": 3,
        "header": 0, "body": 1, "retried": 3, "replacement": 1,
        "late": 1, "in a group": 1, "in it too": 1,
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["solo", "coroutine"], indirect=True)
@pytest.mark.slow
def test_work_that_has_an_end_is_never_hit(app: Celery, lane: Callable[..., Lane]) -> None:
    """A chain of hundreds, at the settings' defaults, in no time at all."""
    ran: list[int] = []

    @app.task(shared=False, ignore_result=True)
    def link(number: int) -> None:
        ran.append(number)

    worker = lane()
    chain(*(link.si(number) for number in range(300))).delay()
    worker.drain(limit=400)
    assert ran == list(range(300))
