"""When an environment tells of itself: at once, rarely, and of a batch that lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane import WorkerHandler
from twolane.errors import StoreUnavailableError
from twolane.state.memory import MemoryStore
from twolane.worker.lookup import open_record
from twolane.worker.presence import Facts, Presence, Teller
from twolane.worker.records import parse_event

from .conftest import RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from twolane.worker.lookup import Opened


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
def teller(app: Celery, store: MemoryStore, queues: RecordedQueues, clock: Hands) -> Teller:
    handler = WorkerHandler(app, store=MemoryStore(), queues=queues, hostname="w@h")
    return Teller(app, store, handler._worker.consumer, clock)


def batch(*task_ids: str) -> Sequence[Opened]:
    records = (record(body("shop.add", 1, task_id=task_id)) for task_id in task_ids)
    return [open_record(one, lambda text: text) for one in parse_event(event(*records))]


def told(store: MemoryStore) -> list[str]:
    (facts,) = Presence(store).everyone()
    return [task["id"] for task in facts.tasks.values()]


def test_a_cold_start_is_listed_with_its_tasks(teller: Teller, store: MemoryStore) -> None:
    teller.enlist()
    (facts,) = Presence(store).everyone()
    assert isinstance(facts, Facts)
    assert (facts.hostname, facts.seen, facts.tasks) == ("w@h", 1_000.0, {})
    assert facts.registered["shop.add"]["rate_limit"] == "5/m"
    assert not any(name.startswith("celery.") for name in facts.registered)
    assert facts.stats["prefetch_count"] == 0


def test_quick_batches_are_told_once_a_minute(
    teller: Teller, store: MemoryStore, clock: Hands
) -> None:
    teller.enlist()
    teller.tell(batch("a"))
    clock.now += 59.5
    teller.tell(batch("b"))
    teller.rest()
    teller.catch_up()
    assert told(store) == ["a"]
    clock.now += 0.6
    teller.tell(batch("c", "d"))
    assert told(store) == ["c", "d"]


def test_a_batch_that_lasts_is_told_after_all(
    teller: Teller, store: MemoryStore, clock: Hands
) -> None:
    teller.enlist()
    teller.tell(batch("a"))
    clock.now += 0.1
    teller.tell(batch("b"))
    assert told(store) == ["a"]
    teller.catch_up()  # as the watching thread does
    assert told(store) == ["b"]


def test_a_store_that_is_down_costs_only_inspect(
    app: Celery, clock: Hands, queues: RecordedQueues, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryStore):
        def put(self, key: str, value: str, *, ttl_s: float) -> None:
            raise StoreUnavailableError("down")

    handler = WorkerHandler(app, store=MemoryStore(), queues=queues)
    Teller(app, Down(), handler._worker.consumer, clock).enlist()
    assert "not listed for inspect: down" in caplog.text


def test_a_clock_that_was_set_back_hides_no_batch(
    teller: Teller, store: MemoryStore, clock: Hands
) -> None:
    teller.enlist()
    teller.tell(batch("a"))
    clock.now -= 500.0
    teller.tell(batch("b"))
    assert told(store) == ["b"]


def test_a_task_that_is_defined_later_is_told_of(
    app: Celery, teller: Teller, store: MemoryStore, clock: Hands
) -> None:
    teller.enlist()

    @app.task(shared=False, name="shop.later")
    def later() -> None:
        """Nothing to do."""

    teller.tell(batch("a"))
    (facts,) = Presence(store).everyone()
    assert set(facts.registered) == {"shop.add", "shop.later"}
