"""The store's client beside Celery's, on a real Redis; what it stores is in ``test_store``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane.publish import install
from twolane.state import open_store
from twolane.state.redis import RedisStore, _kept, call

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def app(redis_url: str) -> Celery:
    install()
    return Celery("beside", backend=redis_url, set_as_current=False)


def in_a_thread(work: Callable[[], object]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    if failed:
        raise failed[0]


def test_in_each_thread_the_kept_connection_is_that_of_its_results(app: Celery) -> None:
    store: Any = open_store(app)
    clients: list[Any] = []

    def batch() -> None:
        backend: Any = app.backend
        with store.at_hand():
            store.put("k", "v", ttl_s=60)
            assert _kept.client is backend.client
            kept = call(backend.client, "CLIENT", "ID")
            assert call(backend.client, "CLIENT", "ID") == kept
            assert store.get_many(["k"]) == {"k": "v"}
        clients.append(backend.client)

    batch()
    in_a_thread(batch)
    batch()
    assert clients[0] is clients[2] is not clients[1]


def test_a_store_of_its_own_has_one_client(redis_url: str) -> None:
    import redis

    made: list[Any] = []

    def connect() -> Any:
        made.append(redis.Redis.from_url(redis_url))
        return made[-1]

    store = RedisStore(connect)
    store.put("k", "v", ttl_s=60)
    in_a_thread(lambda: store.put("k", "w", ttl_s=60))
    assert store.get_many(["k"]) == {"k": "w"}
    assert len(made) == 1
    made[0].close()
