"""Retries, countdowns, ETAs and expiry, in virtual time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from .conftest import Lane


def now() -> float:
    return round(time.time() - 1_800_000_000, 1)


def test_autoretry_backs_off_and_gives_up(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[float] = []

    @app.task(
        shared=False, autoretry_for=(OSError,), retry_backoff=2, retry_jitter=False, max_retries=3
    )
    def flaky() -> None:
        ran.append(now())
        raise OSError("down")

    worker = lane()
    result = flaky.delay()
    worker.drain()
    assert result.state == "RETRY"
    worker.run(30)
    assert [round(at) for at in ran] == [0, 2, 6, 14]
    assert result.state == "FAILURE"
    assert worker.is_empty


def test_retry_jitter_stays_below_the_back_off(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[float] = []

    @app.task(shared=False, autoretry_for=(OSError,), retry_backoff=8, max_retries=1)
    def flaky() -> str:
        ran.append(now())
        if len(ran) == 1:
            raise OSError("down")
        return "up"

    worker = lane()
    result = flaky.delay()
    worker.run(12)
    assert result.result == "up"
    assert ran[1] - ran[0] <= 10


def test_retry_with_a_countdown_of_an_hour(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[float] = []

    @app.task(shared=False, bind=True)
    def patient(self: Any) -> int:
        ran.append(now())
        if self.request.retries == 0:
            raise self.retry(countdown=3600)
        return int(self.request.retries)

    worker = lane()
    result = patient.delay()
    worker.run(4800, step=300)
    assert result.result == 1
    assert ran[0] < 1
    assert 3600 <= ran[1] <= 4200
    assert worker.is_empty


def test_retry_with_an_eta_and_other_arguments(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[tuple[float, int]] = []

    @app.task(shared=False, bind=True)
    def again(self: Any, x: int) -> int:
        ran.append((now(), x))
        if x == 1:
            raise self.retry(args=(2,), eta=datetime.now(UTC) + timedelta(seconds=20))
        return x

    worker = lane()
    result = again.delay(1)
    worker.run(30)
    assert [(round(at), x) for at, x in ran] == [(0, 1), (20, 2)]
    assert result.result == 2


def test_retry_exhausted_raises_the_given_exception(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False, bind=True, max_retries=1)
    def stubborn(self: Any) -> None:
        raise self.retry(exc=KeyError("still missing"), countdown=1)

    worker = lane()
    result = stubborn.delay()
    worker.run(5)
    assert result.state == "FAILURE"
    assert isinstance(result.result, KeyError)


@pytest.mark.parametrize(
    "seconds",
    [5, 900, 901, *(pytest.param(n, marks=pytest.mark.slow) for n in (899, 4000))],
)
def test_countdown(app: Celery, lane: Callable[..., Lane], seconds: int) -> None:
    ran: list[float] = []

    @app.task(shared=False)
    def later() -> None:
        ran.append(now())

    worker = lane()
    later.apply_async(countdown=seconds)
    step = max(1.0, seconds / 10)
    worker.run(seconds * 1.2 + 10, step=step)
    (at,) = ran
    assert seconds <= at <= seconds + step + 2
    assert worker.is_empty


def test_an_eta_by_a_stock_publisher_is_deferred_here(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    ran: list[float] = []

    @app.task(shared=False)
    def later() -> None:
        ran.append(now())

    worker = lane()
    later.apply_async(countdown=30)
    # Stock kombu publishes it without a delay: the message is there at once.
    worker.pass_time(30)
    (message,) = worker.sqs.receive_message(QueueUrl=worker.url)["Messages"]
    worker.sqs.delete_message(QueueUrl=worker.url, ReceiptHandle=message["ReceiptHandle"])
    worker.pass_time(-30)
    worker.sqs.send_message(QueueUrl=worker.url, MessageBody=message["Body"])
    worker.drain()
    assert ran == []
    assert worker.counts() == (0, 0, 1)
    worker.run(40)
    (at,) = ran
    assert 30 <= at <= 32


def test_an_eta_in_the_past_runs_at_once(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[float] = []

    @app.task(shared=False)
    def overdue() -> None:
        ran.append(now())

    worker = lane()
    overdue.apply_async(eta=datetime.now(UTC) - timedelta(days=1))
    worker.drain()
    assert len(ran) == 1


def test_expires(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[int] = []

    @app.task(shared=False)
    def fresh(x: int) -> None:
        ran.append(x)

    worker = lane()
    stale = fresh.apply_async((1,), expires=10)
    in_time = fresh.apply_async((2,), expires=100)
    worker.pass_time(50)
    worker.drain()
    assert ran == [2]
    assert (stale.state, in_time.state) == ("REVOKED", "SUCCESS")
    assert worker.is_empty


def test_a_rate_limit_holds_back_without_blocking(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[float] = []

    @app.task(shared=False, rate_limit="6/m")
    def limited() -> None:
        ran.append(now())

    worker = lane()
    for _ in range(3):
        limited.delay()
    worker.drain()
    # The bucket's own clock is the machine's: only the first token is there.
    assert len(ran) == 1
    assert worker.counts() == (0, 0, 2)


FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "state", "ran"),
    [
        ({"countdown": -5}, "SUCCESS", True),
        ({"countdown": -1e9}, "SUCCESS", True),
        ({"eta": FIRST}, "SUCCESS", True),
        ({"eta": LAST}, "PENDING", False),
        ({"eta": LAST, "expires": LAST}, "PENDING", False),
        ({"expires": -1}, "REVOKED", False),
        ({"expires": FIRST}, "REVOKED", False),
        ({"expires": LAST}, "SUCCESS", True),
        ({"countdown": 20, "expires": 10}, "REVOKED", False),
        ({"countdown": 20, "expires": -10}, "REVOKED", False),
    ],
    ids=str,
)
def test_odd_times(
    options: dict[str, Any], state: str, ran: bool, app: Celery, lane: Callable[..., Lane]
) -> None:
    done: list[str] = []

    @app.task(shared=False)
    def odd(name: str) -> None:
        done.append(name)

    worker = lane()
    result = odd.apply_async(("odd",), **options)
    neighbour = odd.delay("neighbour")
    worker.run(30)
    assert (result.state, neighbour.state) == (state, "SUCCESS")
    assert sorted(done) == (["neighbour", "odd"] if ran else ["neighbour"])
    assert worker.counts() == ((0, 0, 1) if state == "PENDING" else (0, 0, 0))
    # What is not due by then waits on its queue, and is put off again as often as it comes.
    worker.pass_time(900)
    worker.drain()
    assert worker.counts() == ((0, 0, 1) if state == "PENDING" else (0, 0, 0))


def test_an_eta_that_no_clock_can_show_is_refused(app: Celery, lane: Callable[..., Lane]) -> None:
    # In UTC it is in the year 10000; Celery refuses it in a stock worker too.
    @app.task(shared=False)
    def never() -> None:
        raise AssertionError("it ran")

    worker = lane()
    beyond = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14)))
    result = never.apply_async(eta=beyond)
    worker.run(10)
    worker.pass_time(900)
    worker.run(10)
    assert result.state == "FAILURE"
    assert len(worker.dead_letters()) == 1
