"""Success, failure, early and late acks, Ignore and Reject; each through SQS and a result store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Ignore, Reject

from ....installed import REJECTED  # noqa: TID252
from .conftest import MAX_RECEIVE_COUNT, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery


def test_success(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    worker = lane()
    result = add.delay(2, 3)
    assert result.state == "PENDING"
    worker.drain()
    assert (result.state, result.result) == ("SUCCESS", 5)
    assert worker.answers == [{"batchItemFailures": []}]
    assert worker.is_empty


def test_failure_is_recorded_and_acknowledged(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False)
    def fail() -> None:
        raise ValueError("no")

    worker = lane()
    result = fail.delay()
    worker.drain()
    assert result.state == "FAILURE"
    assert isinstance(result.result, ValueError)
    assert "no" in (result.traceback or "")
    assert worker.is_empty


def test_ignore_result(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[int] = []

    @app.task(shared=False, ignore_result=True)
    def note(x: int) -> int:
        ran.append(x)
        return x

    worker = lane()
    result = note.delay(7)
    worker.drain()
    assert ran == [7]
    assert result.state == "PENDING"
    assert worker.is_empty


def test_ignore_leaves_the_state_alone(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False, bind=True)
    def custom(self: Any) -> None:
        self.update_state(state="REVIEW", meta={"page": 3})
        raise Ignore

    worker = lane()
    result = custom.delay()
    worker.drain()
    assert (result.state, result.info) == ("REVIEW", {"page": 3})
    assert worker.is_empty


def test_reject_with_requeue_runs_again(app: Celery, lane: Callable[..., Lane]) -> None:
    seen: list[bool] = []

    @app.task(shared=False, bind=True, acks_late=True)
    def second_time(self: Any) -> str:
        seen.append(self.request.delivery_info["redelivered"])
        if len(seen) == 1:
            raise Reject("not yet", requeue=True)
        return "done"

    worker = lane()
    result = second_time.delay()
    worker.drain()
    assert seen == [False, True]
    assert result.result == "done"
    assert worker.is_empty


def test_reject_without_requeue_goes_to_the_dead_letter_queue(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    ran: list[int] = []

    @app.task(shared=False, acks_late=True)
    def never() -> None:
        ran.append(1)
        raise Reject("never", requeue=False)

    worker = lane()
    result = never.delay()
    worker.drain()
    assert ran == [1]
    assert result.state == REJECTED
    assert len(worker.answers) == MAX_RECEIVE_COUNT
    (body,) = worker.dead_letters()
    assert str(result.id) in body
    assert worker.is_empty


def test_a_redriven_message_runs_again(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[int] = []

    @app.task(shared=False, acks_late=True)
    def once_repaired() -> str:
        ran.append(1)
        if len(ran) == 1:
            raise Reject("broken", requeue=False)
        return "repaired"

    worker = lane()
    result = once_repaired.delay()
    worker.drain()
    (body,) = worker.dead_letters()
    # What a redrive does: the same body as a new message, with a new message id.
    worker.sqs.send_message(QueueUrl=worker.url, MessageBody=body)
    worker.drain()
    assert ran == [1, 1]
    assert result.result == "repaired"


@pytest.mark.parametrize(("late", "calls"), [(False, 1), (True, 1)])
def test_a_task_that_ends_its_process_is_a_lost_worker(
    app: Celery, lane: Callable[..., Lane], late: bool, calls: int
) -> None:
    ran: list[int] = []

    @app.task(shared=False, acks_late=late)
    def leave() -> None:
        ran.append(1)
        raise SystemExit(1)

    worker = lane()
    result = leave.delay()
    worker.run(10)
    assert len(ran) == calls
    assert result.state == "FAILURE"
    assert type(result.result).__name__ == "WorkerLostError"
    assert worker.is_empty


def test_reject_on_worker_lost_runs_until_the_dead_letter_queue(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    ran: list[int] = []

    @app.task(shared=False, acks_late=True, reject_on_worker_lost=True)
    def leave() -> None:
        ran.append(1)
        raise SystemExit(1)

    worker = lane()
    result = leave.delay()
    worker.run(30)
    assert len(ran) == MAX_RECEIVE_COUNT
    assert len(worker.dead_letters()) == 1
    assert result.state == "PENDING"


def test_acks_on_failure_off_goes_to_the_dead_letter_queue_after_one_run(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    ran: list[int] = []

    @app.task(shared=False, acks_late=True, acks_on_failure_or_timeout=False)
    def fail() -> None:
        ran.append(1)
        raise ValueError("no")

    worker = lane()
    result = fail.delay()
    worker.drain()
    assert ran == [1]
    assert result.state == "FAILURE"
    assert len(worker.dead_letters()) == 1


def test_one_failure_of_a_batch_returns_only_itself(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[int] = []

    @app.task(shared=False, acks_late=True)
    def odd_ones_wait(number: int) -> int:
        ran.append(number)
        if number % 2 and ran.count(number) == 1:
            raise Reject("later", requeue=True)
        return number

    worker = lane()
    results = [odd_ones_wait.delay(number) for number in range(5)]
    worker.drain()
    assert sorted(ran) == [0, 1, 1, 2, 3, 3, 4]
    assert [result.result for result in results] == [0, 1, 2, 3, 4]
    assert [len(answer["batchItemFailures"]) for answer in worker.answers] == [2, 0]


def test_an_unknown_task_reaches_the_dead_letter_queue_with_its_body(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    worker = lane()
    worker.sqs.send_message(
        QueueUrl=worker.url,
        MessageBody="no Celery message",
        MessageAttributes={"trace": {"DataType": "String", "StringValue": "1-2"}},
    )
    unknown = app.send_task("not.here", args=[1])
    worker.run(30)
    assert worker.is_empty
    found = worker.sqs.receive_message(
        QueueUrl=worker.dead_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )["Messages"]
    bodies = {message["Body"]: message for message in found}
    assert bodies.pop("no Celery message")["MessageAttributes"]["trace"]["StringValue"] == "1-2"
    (other,) = bodies
    assert str(unknown.id) in other
