"""A result or state store that is down delays; it never loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane import WorkerHandler
from twolane.errors import StoreUnavailableError
from twolane.state.memory import MemoryStore

from .conftest import RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery


class Brittle(MemoryStore):
    """A store that a test takes away."""

    down: frozenset[str] = frozenset()

    def _check(self, call: str) -> None:
        if call in self.down:
            raise StoreUnavailableError(f"down: {call}")

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        self._check("get_many")
        return super().get_many(keys)

    def put(self, key: str, value: str, *, ttl_s: float) -> None:
        self._check("put")
        super().put(key, value, ttl_s=ttl_s)

    def swap(self, key: str, expected: str | None, value: str, *, ttl_s: float) -> str | None:
        self._check("swap")
        return super().swap(key, expected, value, ttl_s=ttl_s)


@pytest.fixture
def brittle() -> Brittle:
    return Brittle()


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def app(ran: list[int]) -> Celery:
    app = make_app()

    @app.task(shared=False, name="note")
    def note(x: int) -> int:
        ran.append(x)
        return x

    return app


@pytest.fixture
def handler(app: Celery, brittle: Brittle, queues: RecordedQueues) -> WorkerHandler:
    return WorkerHandler(app, store=brittle, queues=queues, environ={})


def both(received: int = 1) -> dict[str, Any]:
    return event(
        *(record(body("note", n, task_id=f"t{n}"), f"m{n}", received=received) for n in (1, 2))
    )


def test_nothing_starts_without_the_store(
    handler: WorkerHandler, brittle: Brittle, queues: RecordedQueues, ran: list[int]
) -> None:
    for call in ("get_many", "swap"):
        brittle.down = frozenset({call})
        assert handler(both(received=3)) == {
            "batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]
        }
    assert queues.visibility == {"m1/3": 120, "m2/3": 120}
    assert ran == []
    brittle.down = frozenset()
    assert handler(both(received=4)) == {"batchItemFailures": []}
    assert ran == [1, 2]


def test_finished_work_is_deleted_though_its_end_cannot_be_noted(
    handler: WorkerHandler, brittle: Brittle, ran: list[int]
) -> None:
    brittle.down = frozenset({"put"})
    handler._presence = None
    assert handler(both()) == {"batchItemFailures": []}
    assert ran == [1, 2]


def test_a_cold_start_needs_no_store(app: Celery, queues: RecordedQueues) -> None:
    store = Brittle()
    store.down = frozenset({"get_many", "put", "swap"})
    WorkerHandler(app, store=store, queues=queues, environ={})


def test_a_result_that_cannot_be_stored_brings_the_message_back(
    handler: WorkerHandler,
    app: Celery,
    ran: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend: Any = app.backend

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("the result store is down")

    with monkeypatch.context() as broken:
        broken.setattr(backend, "_store_result", refuse, raising=False)
        broken.setattr("celery.app.trace.warn", lambda *_: None)
        text = record(body("note", 1, task_id="t1"), "m1")
        assert handler(event(text)) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    again = record(body("note", 1, task_id="t1"), "m1", received=2)
    assert handler(event(again)) == {"batchItemFailures": []}
    assert app.AsyncResult("t1").result == 1


def test_a_task_that_never_began_has_not_failed(
    handler: WorkerHandler, app: Celery, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Any = app.backend
    stock = backend._store_result

    def refuse_started(task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        if state == "STARTED":
            raise ConnectionError("the result store is down")
        return stock(task_id, result, state, *args, **kwargs)

    app.tasks["note"].track_started = True
    with monkeypatch.context() as broken:
        broken.setattr(backend, "_store_result", refuse_started, raising=False)
        broken.setattr("celery.app.trace.warn", lambda *_: None)
        first = record(body("note", 1, task_id="t1"), "m1")
        assert handler(event(first)) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert ran == []
    again = record(body("note", 1, task_id="t1"), "m1", received=2)
    assert handler(event(again)) == {"batchItemFailures": []}
    assert ran == [1]
    assert app.AsyncResult("t1").state == "SUCCESS"
