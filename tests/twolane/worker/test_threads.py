"""``worker_pool = "threads"``: the ``def`` tasks of a batch side by side, as in Celery's pool."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from typing import Any

import pytest
from celery import Celery, current_task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from twolane import WorkerHandler
from twolane.environment.logs import correlation
from twolane.state.memory import MemoryStore
from twolane.worker.lookup import Revocation, revoked_key, write_revocation

from .conftest import Context, RecordedQueues, body, event, make_app, record


@pytest.fixture
def app() -> Celery:
    return make_app(worker_pool="threads", worker_concurrency=10)


@pytest.fixture
def handler(app: Celery, queues: RecordedQueues, store: MemoryStore) -> WorkerHandler:
    return WorkerHandler(app, queues=queues, store=store, environ={})


def failed(answer: dict[str, Any]) -> list[str]:
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def state(app: Celery, task_id: str) -> tuple[str, Any]:
    result = app.AsyncResult(task_id)
    return result.state, result.result


def test_ten_that_block_take_as_long_as_one(app: Celery, handler: WorkerHandler) -> None:
    seen: list[tuple[str, str, str, str]] = []

    @app.task(shared=False, name="wait", bind=True)
    def wait(self: Any, name: str) -> str:
        time.sleep(0.3)
        told = (correlation.get() or {})["taskId"]
        seen.append((name, self.request.id, current_task.request.id, told))
        return threading.current_thread().name

    names = [f"t{number}" for number in range(10)]
    began = time.monotonic()
    texts = [body("wait", name, task_id=name) for name in names]
    assert handler(event(*map(record, texts)), Context()) == {"batchItemFailures": []}
    assert time.monotonic() - began < 1.2
    assert sorted(seen) == [(name,) * 4 for name in names]
    threads = {state(app, name)[1] for name in names}
    assert len(threads) == 10
    handler(event(record(body("wait", "again", task_id="again"))), Context())
    assert state(app, "again")[1] in threads  # they are kept


def test_worker_concurrency_is_how_many_at_once(app: Celery, queues: RecordedQueues) -> None:
    app.conf.worker_concurrency = 3
    running, most = 0, 0
    lock = threading.Lock()

    @app.task(shared=False, name="wait")
    def wait() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    handler = WorkerHandler(app, queues=queues, environ={}, store=MemoryStore())
    handler(event(*(record(body("wait", task_id=f"t{n}")) for n in range(8))), Context())
    assert most == 3


def test_solo_runs_one_after_the_other_beside_coroutines(queues: RecordedQueues) -> None:
    app = make_app(worker_concurrency=4)
    log: list[str] = []

    @app.task(shared=False, name="here")
    def here() -> str:
        log.append(threading.current_thread().name)
        return asyncio.run(asyncio.sleep(0, "no loop is in the way"))

    @app.task(shared=False, name="there")
    async def there() -> None:
        await asyncio.sleep(0.02)
        log.append("coroutine")

    handler = WorkerHandler(app, queues=queues, environ={}, store=MemoryStore())
    names = ["here", "there", "here", "there"]
    records = [record(body(name, task_id=f"t{n}")) for n, name in enumerate(names)]
    assert handler(event(*records), Context()) == {"batchItemFailures": []}
    assert sorted(log) == ["MainThread", "MainThread", "coroutine", "coroutine"]
    assert state(app, "t0") == ("SUCCESS", "no loop is in the way")


def test_coroutines_and_threads_go_side_by_side(app: Celery, handler: WorkerHandler) -> None:
    met = threading.Barrier(2)

    @app.task(shared=False, name="thread")
    def thread() -> int:
        return met.wait(10)

    @app.task(shared=False, name="coroutine")
    async def coroutine() -> int:
        return await asyncio.to_thread(met.wait, 10)

    answer = handler(
        event(record(body("thread", task_id="t")), record(body("coroutine", task_id="c"))),
        Context(),
    )
    assert answer == {"batchItemFailures": []}
    assert {state(app, "t")[1], state(app, "c")[1]} == {0, 1}


def test_each_has_its_own_outcome(
    app: Celery, handler: WorkerHandler, queues: RecordedQueues
) -> None:
    @app.task(shared=False, name="end", acks_late=True)
    def end(how: str) -> str:
        time.sleep(0.02)
        if how == "fail":
            raise ValueError(how)
        if how == "reject":
            raise Reject(requeue=True)
        if how == "exit":
            raise SystemExit(1)
        return how

    hows = ("fine", "fail", "reject", "exit")
    records = [record(body("end", how, task_id=how), f"m-{how}") for how in hows]
    unknown = record(body("unknown", task_id="u"), "m-unknown")
    broken = record("{", "m-broken")
    answer = handler(event(*records, unknown, broken), Context())
    assert failed(answer) == ["m-reject", "m-unknown", "m-broken"]
    assert [state(app, how)[0] for how in hows] == ["SUCCESS", "FAILURE", "PENDING", "FAILURE"]
    assert queues.visibility["m-reject/1"] == 0


def test_limits_strike_between_two_bytecodes(app: Celery, handler: WorkerHandler) -> None:
    @app.task(shared=False, name="spin")
    def spin() -> str:
        try:
            while True:
                time.sleep(0.01)
        except SoftTimeLimitExceeded:
            return "tidied"

    answer = handler(
        event(
            record(body("spin", task_id="s", timelimit=[None, 0.1])),
            record(body("spin", task_id="h", timelimit=[0.1, None])),
        ),
        Context(),
    )
    assert answer == {"batchItemFailures": []}
    assert state(app, "s") == ("SUCCESS", "tidied")
    assert type(state(app, "h")[1]).__name__ == "TimeLimitExceeded"


def test_what_cannot_be_interrupted_is_named_and_comes_back(
    app: Celery, handler: WorkerHandler, queues: RecordedQueues, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, ended = threading.Event(), threading.Event()

    @app.task(shared=False, name="stuck")
    def stick() -> None:
        stuck.wait(20)  # one call in C, from Python's point of view
        ended.set()

    @app.task(shared=False, name="quick")
    def quick() -> str:
        return "quick"

    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        answer = handler(
            event(record(body("stuck", task_id="s"), "m-s"), record(body("quick", task_id="q"))),
            Context(2500),
        )
    assert time.monotonic() - began < 2.5
    assert failed(answer) == ["m-s"]
    assert queues.visibility["m-s/1"] >= 1
    told = [one.twolane for one in caplog.records if hasattr(one, "twolane")]  # type: ignore[attr-defined]
    assert [one["taskId"] for one in told if one["event"] == "task.left-behind"] == ["s"]
    assert state(app, "q") == ("SUCCESS", "quick")
    stuck.set()


def test_a_running_one_is_revoked(app: Celery, handler: WorkerHandler, store: MemoryStore) -> None:
    @app.task(shared=False, name="spin")
    def spin(seconds: float) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
        return "spun"

    revoked = write_revocation(Revocation(terminate=True))
    threading.Timer(0.3, lambda: store.put(revoked_key("long"), revoked, ttl_s=60)).start()
    handler(
        event(record(body("spin", 20, task_id="long")), record(body("spin", 1.5, task_id="short"))),
        Context(),
    )
    assert state(app, "long")[0] == "REVOKED"
    assert state(app, "short") == ("SUCCESS", "spun")


def test_a_fifo_group_keeps_its_order(app: Celery, handler: WorkerHandler) -> None:
    log: list[str] = []

    @app.task(shared=False, name="step", acks_late=True)
    def step(name: str) -> None:
        log.append(f"{name} begins")
        time.sleep(0.05)
        log.append(f"{name} ends")
        if name == "a2":
            raise Reject(requeue=True)

    arn = "arn:aws:sqs:us-east-1:123456789012:tasks.fifo"
    records = [
        record(body("step", name, task_id=name), name, arn=arn, MessageGroupId=name[0])
        for name in ("a1", "a2", "b1", "a3")
    ]
    answer = handler(event(*records), Context())
    assert [line for line in log if line[0] == "a"] == [
        "a1 begins", "a1 ends", "a2 begins", "a2 ends",
    ]  # fmt: skip
    assert log.index("b1 begins") < log.index("a1 ends")
    assert failed(answer) == ["a2", "a3"]


def test_a_rate_limit_holds(app: Celery, queues: RecordedQueues) -> None:
    starts: list[float] = []

    @app.task(shared=False, name="limited", rate_limit="10/s")
    def limited() -> None:
        starts.append(time.monotonic())
        time.sleep(1)

    handler = WorkerHandler(app, queues=queues, environ={}, store=MemoryStore())
    began = time.monotonic()
    handler(event(*(record(body("limited", task_id=f"t{n}")) for n in range(4))), Context())
    assert time.monotonic() - began < 3  # they overlap
    gaps = [later - one for one, later in itertools.pairwise(starts)]
    assert len(starts) == 4
    assert min(gaps) > 0.08


def test_the_deadline_strikes_in_every_thread(app: Celery, handler: WorkerHandler) -> None:
    @app.task(shared=False, name="spin")
    def spin(tidies: bool) -> str:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                while time.monotonic() < until:
                    time.sleep(0.01)
            except SoftTimeLimitExceeded:
                if tidies:
                    return "tidied"
        return "never"

    began = time.monotonic()
    answer = handler(
        event(record(body("spin", True, task_id="t")), record(body("spin", False, task_id="f"))),
        Context(2500),
    )
    assert time.monotonic() - began < 2.5
    assert answer == {"batchItemFailures": []}
    assert state(app, "t") == ("SUCCESS", "tidied")
    assert type(state(app, "f")[1]).__name__ == "WorkerLostError"
