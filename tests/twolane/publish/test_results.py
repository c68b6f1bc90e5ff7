"""Lazy result backends on a real Redis, and what a publish imports."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, group
from celery.backends.redis import RedisBackend
from celery.backends.rpc import RPCBackend

from twolane.patches.publishing import LazyBackend
from twolane.publish import install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...conftest import RunPython  # noqa: TID252

# Celery 5.7 writes results with a command that redis-py 8 would rather have spelled otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    install()
    app = Celery("shop", broker="memory://", backend=redis_url, set_as_current=False)
    app.conf.task_default_queue = "unread"
    yield app
    close(app)


def close(app: Celery) -> None:
    """Celery leaves its Redis connections to the garbage collector."""
    if is_made(app):
        app.backend.result_consumer.stop()
        app.backend.client.close()
    app.close()


def is_made(app: Celery) -> bool:
    assert isinstance(app.backend, LazyBackend)
    return app.backend._made() is not None


def test_a_publish_does_not_make_the_backend(app: Celery) -> None:
    result = app.send_task("shop.add", (1, 2))
    assert not is_made(app)
    del result
    gc.collect()
    assert not is_made(app)
    assert "nobody asked" in repr(app.backend)


def test_a_group_does_not_make_the_backend(app: Celery) -> None:
    result = group(app.signature("shop.add", (n, n)) for n in range(3)).apply_async()
    assert not is_made(app)
    assert len(app.backend._pending()) == 3
    del result
    gc.collect()
    assert app.backend._pending() == {}
    assert not is_made(app)


def test_a_result_that_was_there_before_anyone_asked(app: Celery) -> None:
    result = app.send_task("shop.add", (1, 2))
    app.backend.store_result(result.id, 3, "SUCCESS")
    assert result.get(timeout=5) == 3
    assert isinstance(app.backend._made(), RedisBackend)


def test_a_result_that_comes_while_someone_waits(app: Celery) -> None:
    result = app.send_task("shop.add", (1, 2))
    workers = RedisBackend(app=app, url=app.conf.result_backend)
    waiting = threading.Timer(0.05, workers.store_result, (result.id, 3, "SUCCESS"))
    waiting.start()
    assert result.get(timeout=5) == 3
    waiting.join()
    workers.client.close()


def test_a_callback_that_was_registered_before_there_was_a_backend(app: Celery) -> None:
    results = group(app.signature("shop.add", (n, n)) for n in range(2)).apply_async()
    seen: list[Any] = []
    results.children[0].then(lambda result: seen.append(result.id))
    for child in results.children:
        app.backend.store_result(child.id, 1, "SUCCESS")
    assert results.get(timeout=5) == [1, 1]
    assert seen == [results.children[0].id]


def test_threads_share_the_backend_exactly_as_in_stock_celery(app: Celery) -> None:
    app.backend.get_task_meta("6f1c0f5e-6a8b-4b65-9d9f-0f7b3a0f5a11")
    mine = app.backend._made()
    theirs: list[Any] = []
    thread = threading.Thread(target=lambda: theirs.append(app.backend._real()))
    thread.start()
    thread.join()
    assert (theirs[0] is mine) is mine.thread_safe


@pytest.mark.parametrize(
    ("environment", "subscribed"), [({}, True), ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, False)]
)
def test_where_there_is_a_backend_already_a_process_that_stays_subscribes_as_in_stock_celery(
    app: Celery, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], subscribed: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app.backend.get_task_meta("6f1c0f5e-6a8b-4b65-9d9f-0f7b3a0f5a11")
    result = app.send_task("shop.add", (1, 2))
    key = app.backend.get_key_for_task(result.id)
    assert (key in app.backend.result_consumer.subscribed_to) is subscribed


def test_attributes_are_those_of_the_backend(app: Celery) -> None:
    app.backend.expires = 77
    assert app.backend._made().expires == 77
    assert app.backend.url.startswith("redis://")
    del app.backend.expires
    assert "expires" not in vars(app.backend._made())


@pytest.mark.parametrize(("url", "kind"), [("rpc://", RPCBackend)])
def test_backends_that_cannot_be_late_are_stock(url: str, kind: type) -> None:
    install()
    app = Celery("shop", broker="memory://", backend=url, set_as_current=False)
    app.conf.task_default_queue = "unread"
    assert isinstance(app.backend, kind)
    app.close()


def test_a_store_that_is_down_does_not_hold_a_publish_up(unused_tcp_port: int) -> None:
    install()
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    app = Celery("shop", broker="memory://", backend=url, set_as_current=False)
    app.conf.task_default_queue = "unread"
    assert app.send_task("shop.add", (1, 2)).id
    assert not is_made(app)
    app.close()


@pytest.mark.parametrize("backend", ["dynamodb://@us-east-1/results", "redis://127.0.0.1:1/0"])
def test_a_publish_imports_no_client_of_the_result_store(
    backend: str, run_python: RunPython
) -> None:
    program = f"""
import sys
from celery import Celery
from twolane.publish import install
install()
app = Celery("shop", broker="memory://", backend={backend!r})
app.send_task("shop.add", (1, 2))
heavy = sorted({{n.split(".")[0] for n in sys.modules}} & {{"boto3", "botocore", "redis"}})
assert not heavy, heavy
"""
    run_python(program)
