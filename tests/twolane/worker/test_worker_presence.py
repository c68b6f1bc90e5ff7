"""When a worker writes its facts: at once, rarely, and of a batch that lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane import WorkerHandler
from twolane.errors import StoreUnavailableError
from twolane.state.memory import MemoryStore
from twolane.worker.presence import Presence, WorkerFacts, WorkerPresence
from twolane.worker.records import open_run, parse_event

from .conftest import RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from twolane.worker.records import Run


class Hands:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def app() -> Celery:
    app = make_app()

    @app.task(shared=False, name="shop.add", rate_limit="5/m")
    def add(x: int) -> int:
        return x

    return app


@pytest.fixture
def worker(app: Celery, store: MemoryStore, queues: RecordedQueues, clock: Hands) -> WorkerPresence:
    handler = WorkerHandler(app, store=MemoryStore(), queues=queues, hostname="w@h")
    return WorkerPresence(app, store, handler._worker.consumer, clock)


def batch(*task_ids: str) -> Sequence[Run]:
    records = (record(body("shop.add", 1, task_id=task_id)) for task_id in task_ids)
    return [open_run(one, lambda text: text) for one in parse_event(event(*records))]


def written(store: MemoryStore) -> list[str]:
    (facts,) = Presence(store).everyone()
    return [task["id"] for task in facts.tasks.values()]


def test_a_cold_start_is_listed_with_its_tasks(worker: WorkerPresence, store: MemoryStore) -> None:
    worker.enlist()
    (facts,) = Presence(store).everyone()
    assert isinstance(facts, WorkerFacts)
    assert (facts.hostname, facts.seen, facts.tasks) == ("w@h", 1_000.0, {})
    assert facts.registered["shop.add"]["rate_limit"] == "5/m"
    assert not any(name.startswith("celery.") for name in facts.registered)
    assert facts.stats["prefetch_count"] == 0


def test_quick_batches_are_written_once_a_minute(
    worker: WorkerPresence, store: MemoryStore, clock: Hands
) -> None:
    worker.enlist()
    worker.begin_batch(batch("a"))
    clock.now += 59.5
    worker.begin_batch(batch("b"))
    worker.end_batch()
    worker.catch_up()
    assert written(store) == ["a"]
    clock.now += 0.6
    worker.begin_batch(batch("c", "d"))
    assert written(store) == ["c", "d"]


def test_a_batch_that_lasts_is_written_after_all(
    worker: WorkerPresence, store: MemoryStore, clock: Hands
) -> None:
    worker.enlist()
    worker.begin_batch(batch("a"))
    clock.now += 0.1
    worker.begin_batch(batch("b"))
    assert written(store) == ["a"]
    worker.catch_up()  # as the watching thread does
    assert written(store) == ["b"]


def test_a_store_that_is_down_costs_only_inspect(
    app: Celery, clock: Hands, queues: RecordedQueues, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryStore):
        def put(self, key: str, value: str, *, ttl_s: float) -> None:
            raise StoreUnavailableError("down")

    handler = WorkerHandler(app, store=MemoryStore(), queues=queues)
    WorkerPresence(app, Down(), handler._worker.consumer, clock).enlist()
    assert "not listed for inspect: down" in caplog.text


def test_a_clock_that_was_set_back_hides_no_batch(
    worker: WorkerPresence, store: MemoryStore, clock: Hands
) -> None:
    worker.enlist()
    worker.begin_batch(batch("a"))
    clock.now -= 500.0
    worker.begin_batch(batch("b"))
    assert written(store) == ["b"]


def test_a_task_that_is_defined_later_is_known(
    app: Celery, worker: WorkerPresence, store: MemoryStore, clock: Hands
) -> None:
    worker.enlist()

    @app.task(shared=False, name="shop.later")
    def later() -> None:
        """Nothing to do."""

    worker.begin_batch(batch("a"))
    (facts,) = Presence(store).everyone()
    assert set(facts.registered) == {"shop.add", "shop.later"}
