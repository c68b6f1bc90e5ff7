"""The next record's lease: taken as a result is stored, given back if unused; on a real Redis."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery, signals

from twolane import WorkerHandler
from twolane.worker.lease import read_lease
from twolane.worker.limits import Deadline
from twolane.worker.records import parse_event

from .conftest import RecordedQueues, body, event, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def test_a_lease_is_taken_when_its_task_is_next_and_no_sooner(
    handler: WorkerHandler, client: Any, seen: dict[str, list[str]]
) -> None:
    assert handler(event(look("a"), look("b"), look("c"))) == {"batchItemFailures": []}
    assert seen == {
        "a": ["a running"],
        "b": ["a done", "b running"],
        "c": ["a done", "b done", "c running"],
    }
    assert leases(client) == ["a done", "b done", "c done"]


def test_a_batch_of_ten_takes_twelve_round_trips(handler: WorkerHandler, client: Any) -> None:
    def requests() -> int:
        return int(client.info("stats")["total_reads_processed"])

    run(handler, look("first"))  # opens the connection, loads the script
    before = requests()
    run(handler, *(record(body("noop", task_id=f"p{n}")) for n in range(10)))
    asked = 1  # the question itself
    assert requests() - before - asked == 1 + 1 + 10  # a look-up, a lease, ten results


def test_a_record_that_does_not_start_gives_its_lease_back(
    handler: WorkerHandler, client: Any, seen: dict[str, list[str]]
) -> None:
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    handler(event(look("a"), look("late", expires=past), look("c")))
    assert set(seen) == {"a", "c"}
    assert seen["c"] == ["a done", "c running"]
    assert leases(client) == ["a done", "c done"]


@pytest.mark.parametrize("reason", ["eta", "retry", "running elsewhere"])
def test_what_may_not_start_is_not_taken_ahead(
    handler: WorkerHandler, client: Any, seen: dict[str, list[str]], reason: str
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    headers = {"eta": {"eta": later}, "retry": {"retries": 1}, "running elsewhere": {}}[reason]
    if reason == "running elsewhere":
        first = run_until_killed(handler, client)
        assert first == ["a done", "b running"]
    taken: list[list[str]] = []
    receiver = noting_after("x", lambda: taken.append(leases(client)))
    try:
        run(handler, look("x"), look("b", **headers))
    finally:
        signals.task_postrun.disconnect(receiver)
    held = ["a done", "b running"] if reason == "running elsewhere" else []
    assert taken == [[*held, "x done"]]


def test_an_unknown_tasks_failure_is_stored(handler: WorkerHandler, app: Celery) -> None:
    unknown = record(body("nobody", task_id="u"), "m-u")
    assert handler(event(unknown)) == {"batchItemFailures": [{"itemIdentifier": "m-u"}]}
    assert app.AsyncResult("u").state == "FAILURE"
    assert "nobody" in str(app.AsyncResult("u").result)


def test_no_time_left_for_the_next_record_gives_its_lease_back(
    handler: WorkerHandler, client: Any, seen: dict[str, list[str]]
) -> None:
    skew = [0.0]
    taken: list[list[str]] = []

    def time_passes() -> None:
        taken.append(leases(client))
        skew[0] = 59.0

    receiver = noting_after("a", time_passes)
    deadline = Deadline(time.monotonic() + 60, 1.0, lambda: time.monotonic() + skew[0])
    try:
        run(handler, look("a"), look("b"), deadline=deadline)
    finally:
        signals.task_postrun.disconnect(receiver)
    assert taken == [["a done", "b running"]]
    assert set(seen) == {"a"}
    assert leases(client) == ["a done"]


def test_a_lease_taken_ahead_by_one_that_died_holds_until_its_timeout_and_no_longer(
    app: Celery, client: Any, seen: dict[str, list[str]]
) -> None:
    now = [time.time()]
    queues = RecordedQueues()
    handler = WorkerHandler(app, queues=queues, clock=lambda: now[0])
    assert run_until_killed(handler, client) == ["a done", "b running"]
    seen.clear()

    again = record(body("look", "b", task_id="b"), "m-b", received=2)
    assert handler(event(again)) == {"batchItemFailures": [{"itemIdentifier": "m-b"}]}
    assert "b" not in seen
    assert 895 <= queues.visibility["m-b/2"] <= 903

    now[0] += 902
    third = record(body("look", "b", task_id="b"), "m-b", received=3)
    assert handler(event(third)) == {"batchItemFailures": []}
    assert "b" in seen
    assert leases(client) == ["a done", "b done"]


class Killed(BaseException):
    """The environment is gone: nothing of it runs any more."""


def run_until_killed(handler: WorkerHandler, client: Any) -> list[str]:
    """Run a and b, but die right after the result of a is stored; the leases that it leaves."""
    left: list[dict[str, str]] = []
    receiver = noting_after("a", lambda: left.append(copy_of(client)))
    try:
        run(handler, look("a"), look("b"))
    finally:
        signals.task_postrun.disconnect(receiver)
    # As a SIGKILL leaves it: whatever was done after that instant is undone.
    client.flushdb()
    for key, text in left[0].items():
        client.set(key, text, px=3_600_000)
    return leases(client)


def copy_of(client: Any) -> dict[str, str]:
    return {key: client.get(key) for key in client.keys("twolane:lease:*")}


def noting_after(name: str, note: Callable[[], None]) -> Callable[..., None]:
    def receiver(task_id: str, **_: Any) -> None:
        if task_id == name:
            note()

    signals.task_postrun.connect(receiver, weak=False)
    return receiver
