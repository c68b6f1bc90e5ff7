"""The leases of a batch, taken together for the tasks that start soon; on a real Redis."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery, signals
from celery.worker.request import Request
from kombu.message import Message

from twolane import WorkerHandler
from twolane.worker.lease import LeaseFence, read_lease
from twolane.worker.limits import Deadline
from twolane.worker.records import Outcome, Run, parse_event

from .conftest import RecordedQueues, body, event, record

if TYPE_CHECKING:
    from collections.abc import Iterator

# Celery 5.7 stores some results with a command that redis-py 8 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture
def seen(client: Any) -> dict[str, list[str]]:
    """Which leases were there while each task ran."""
    return {}


@pytest.fixture
def app(redis_url: str, client: Any, seen: dict[str, list[str]]) -> Iterator[Celery]:
    app = Celery("ahead", backend=redis_url, set_as_current=False)
    app.conf.update(broker_url="sqs://", task_default_queue="tasks")

    @app.task(shared=False, name="look")
    def look(name: str) -> str:
        seen[name] = leases(client)
        return name

    @app.task(shared=False, name="noop")
    def noop() -> None:
        """Asks Redis nothing."""

    yield app
    app.backend.client.close()  # type: ignore[attr-defined]


@pytest.fixture
def handler(app: Celery) -> WorkerHandler:
    return WorkerHandler(app, queues=RecordedQueues())


def leases(client: Any) -> list[str]:
    found = {key: read_lease(client.get(key)) for key in client.keys("twolane:lease:*")}
    return sorted(
        f"{key.removeprefix('twolane:lease:').partition(':')[0]} {lease.state}"
        for key, lease in found.items()
        if lease
    )


def look(name: str, **headers: Any) -> dict[str, Any]:
    return record(body("look", name, task_id=name, **headers), f"m-{name}")


def run(handler: WorkerHandler, *records: dict[str, Any], deadline: Deadline | None = None) -> None:
    handler._worker.run(parse_event(event(*records)), deadline)


class Stepped:
    """A clock on which each look takes a while."""

    def __init__(self, step_s: float) -> None:
        self._now, self._step_s = 1_000.0, step_s

    def __call__(self) -> float:
        self._now += self._step_s
        return self._now


def paced(app: Celery, step_s: float) -> WorkerHandler:
    return WorkerHandler(app, queues=RecordedQueues(), clock=Stepped(step_s))


def test_leases_of_tasks_that_start_soon_are_taken_together(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    handler = paced(app, 0.0)
    assert handler(event(look("a"), look("b"), look("c"))) == {"batchItemFailures": []}
    assert seen == {
        "a": ["a running"],  # how long the tasks take is not known yet
        "b": ["a done", "b running", "c running"],
        "c": ["a done", "b done", "c running"],
    }
    assert leases(client) == ["a done", "b done", "c done"]


def test_behind_a_slow_task_a_lease_is_taken_when_its_task_is_next(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    handler = paced(app, 0.1)
    assert handler(event(look("a"), look("b"), look("c"))) == {"batchItemFailures": []}
    assert seen["b"] == ["a done", "b running"]
    assert leases(client) == ["a done", "b done", "c done"]


@pytest.mark.usefixtures("real_redis")
def test_a_batch_of_ten_takes_twelve_round_trips(app: Celery, client: Any) -> None:
    def requests() -> int:
        return int(client.info("stats")["total_reads_processed"])

    handler = paced(app, 0.0)
    run(handler, look("first"))  # opens the connection, loads the script
    before = requests()
    run(handler, *(record(body("noop", task_id=f"p{n}")) for n in range(10)))
    asked = 1  # the question itself
    assert requests() - before - asked == 1 + 1 + 10  # a look-up, all leases, a result each


def test_a_lease_that_was_taken_ahead_is_given_back_if_its_task_does_not_start(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    handler = paced(app, 0.0)
    handler(event(look("warm")))
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    handler(event(look("a"), look("late", expires=past), look("c")))
    assert seen["a"] == ["a running", "c running", "late running", "warm done"]
    assert seen["c"] == ["a done", "c running", "warm done"]
    assert leases(client) == ["a done", "c done", "warm done"]


def test_a_lease_is_given_back_though_another_message_of_the_batch_is_broken(
    app: Celery, client: Any, seen: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that came back would find its own lease, and wait until that runs out."""
    handler = paced(app, 0.0)
    handler(event(look("warm")))

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("under Celery")

    monkeypatch.setitem(handler._worker.consumer.strategies, "noop", fails)
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    broken = record(body("noop", task_id="n"), "m-n")
    answer = handler(event(look("a"), broken, look("late", expires=past)))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-n"}]}
    assert leases(client) == ["a done", "warm done"]


def test_what_is_taken_ahead_is_kept_when_more_is_taken(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    """The batch takes leases a second time, since one run of it takes none ahead."""
    handler = paced(app, 0.0)
    handler(event(look("warm")))
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    soon = datetime.now(UTC).isoformat()
    handler(event(look("a"), look("b", eta=soon), look("late", expires=past), look("d")))
    assert set(seen) == {"warm", "a", "b", "d"}
    assert leases(client) == ["a done", "b done", "d done", "warm done"]


def test_the_second_copy_in_a_batch_finds_the_work_done(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    handler = paced(app, 0.0)
    handler(event(look("warm")))
    copies = [record(body("look", "a", task_id="a"), f"m-{n}") for n in (1, 2)]
    assert handler(event(*copies, look("b"))) == {"batchItemFailures": []}
    assert seen["a"] == ["a running", "b running", "warm done"]
    assert leases(client) == ["a done", "b done", "warm done"]


def test_what_another_environment_runs_is_left_to_it(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    """Its lease is taken between this batch's look-up and its question for the leases."""
    handler, other = paced(app, 0.0), paced(app, 0.0)
    handler(event(look("warm")))

    @app.task(shared=False, name="meanwhile")
    def meanwhile() -> None:
        other(event(look("b", shadow="elsewhere")))

    # The second batch's pace is the first one's: one task at a time, so that b's lease is free
    # when the first task runs.
    handler._worker._pace_s = 1.0
    answer = handler(event(record(body("meanwhile", task_id="m"), "m-m"), look("b")))
    assert answer == {"batchItemFailures": []}
    assert leases(client) == ["b done", "m done", "warm done"]


def test_a_record_that_does_not_start_takes_no_lease(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    handler = paced(app, 0.1)
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    handler(event(look("a"), look("late", expires=past), look("c")))
    assert set(seen) == {"a", "c"}
    assert seen["c"] == ["a done", "c running"]
    assert leases(client) == ["a done", "c done"]


def test_an_unknown_tasks_failure_is_stored(handler: WorkerHandler, app: Celery) -> None:
    unknown = record(body("nobody", task_id="u"), "m-u")
    assert handler(event(unknown)) == {"batchItemFailures": [{"itemIdentifier": "m-u"}]}
    assert app.AsyncResult("u").state == "FAILURE"
    assert "nobody" in str(app.AsyncResult("u").result)


def test_with_no_time_left_the_next_record_takes_no_lease(
    handler: WorkerHandler, client: Any, seen: dict[str, list[str]]
) -> None:
    skew = [0.0]

    def time_passes(task_id: str, **_: Any) -> None:
        skew[0] = 59.0

    signals.task_postrun.connect(time_passes, weak=False)
    deadline = Deadline(time.monotonic() + 60, 1.0, lambda: time.monotonic() + skew[0])
    try:
        run(handler, look("a"), look("b"), deadline=deadline)
    finally:
        signals.task_postrun.disconnect(time_passes)
    assert set(seen) == {"a"}
    assert leases(client) == ["a done"]


def test_a_run_within_a_run_is_another_one(
    app: Celery, handler: WorkerHandler, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever Celery calls for one record finds that record's run, and not the latest."""
    settled: list[Any] = []

    @app.task(shared=False, name="outer")
    def outer() -> None:
        inner = record(body("look", "i", task_id="i"), "m-i", received=2)
        settled.extend(handler._worker.run(parse_event(event(inner)), None))
        assert leases(client) == ["i done", "o running"]
        raise ValueError("the outer one's")

    caplog.set_level("INFO", "twolane.worker")
    assert handler(event(record(body("outer", task_id="o"), "m-o"))) == {"batchItemFailures": []}
    ((one, outcome, _),) = settled
    assert (one.message_id, outcome) == ("m-i", Outcome.ACKNOWLEDGED)
    assert (app.AsyncResult("i").result, app.AsyncResult("o").state) == ("i", "FAILURE")
    assert leases(client) == ["i done", "o done"]
    events = [getattr(line, "twolane", {}) for line in caplog.records]
    ends = [(each.get("event"), each.get("taskId")) for each in events if "durationMs" in each]
    assert ends == [("task.succeeded", "i"), ("task.failed", "o")]


def test_nothing_that_is_shared_keeps_a_record(app: Celery, handler: WorkerHandler) -> None:
    """Several records will be under way at once."""
    worker = handler._worker
    kept: list[str] = []

    @app.task(shared=False, name="search")
    def search() -> None:
        backend: Any = app.backend
        shared = [worker, worker.pool, worker.consumer, worker._timer, backend._real()]
        kept.extend(
            f"{type(owner).__name__}.{name}"
            for owner in shared
            for name, value in vars(owner).items()
            if isinstance(value, Run | LeaseFence | Request | Message)
        )

    handler(event(record(body("search", task_id="s"))))
    assert app.AsyncResult("s").state == "SUCCESS"
    assert kept == []
