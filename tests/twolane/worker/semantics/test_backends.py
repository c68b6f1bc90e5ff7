"""Results in other stores than Redis and DynamoDB: stored and read as stock, leases in Redis.

The stores are real ones: SQLite by SQLAlchemy, files, memcached, S3 on moto; MongoDB has no server.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from celery import Celery, chord, group

from twolane import WorkerHandler
from twolane.patches.snapshot import close_backend

from ....conftest import free_port  # noqa: TID252
from .conftest import Lane, create_queue
from .test_applications import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def memcached() -> Iterator[str]:
    binary = shutil.which("memcached")
    if binary is None:
        pytest.skip("memcached is not on the PATH; install it (apt-get install memcached)")
    pytest.importorskip("pymemcache")
    from celery.backends import cache

    if not hasattr(cache, "get_memcache_client"):
        pytest.skip("before Celery 5.7, memcached is reached by another library")
    port = free_port()
    arguments = ["-l", "127.0.0.1", "-p", str(port), "-u", "nobody"]
    process = subprocess.Popen([binary, *arguments])
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "memcached ended before it took a connection"
                assert time.monotonic() < deadline, "memcached took no connection within 10 s"
        yield f"cache+memcached://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(10)


#: What each is without a server: where it is, and what else its application sets.
BACKENDS = ("database", "files", "memory", "memcached", "s3")


@pytest.fixture(params=BACKENDS)
def elsewhere(request: pytest.FixtureRequest, aws: str, tmp_path: Path) -> dict[str, Any]:
    if request.param == "database":
        pytest.importorskip("sqlalchemy")
        return {"result_backend": f"db+sqlite:///{tmp_path / 'results.sqlite'}"}
    if request.param == "files":
        (tmp_path / "results").mkdir()
        return {"result_backend": f"file://{tmp_path / 'results'}"}
    if request.param == "memory":
        return {"result_backend": "cache+memory://"}
    if request.param == "memcached":
        return {"result_backend": request.getfixturevalue("memcached")}
    import boto3

    boto3.client("s3").create_bucket(Bucket="results")
    return {
        "result_backend": "s3://",
        "s3_bucket": "results",
        "s3_base_path": "celery/",
        "s3_region": "us-east-1",
        "s3_endpoint_url": aws,
        "s3_access_key_id": "test",
        "s3_secret_access_key": "test",
    }


@pytest.fixture(autouse=True)
def _leases_in_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOLANE_STATE_STORE", redis_url)


@pytest.fixture
def other_app(aws: str, clock: Any, elsewhere: dict[str, Any]) -> Iterator[Celery]:
    app = Celery("elsewhere", set_as_current=False)
    app.conf.update({**settings(aws, ""), **elsewhere, "result_extended": True})
    app.set_current()
    yield app
    close_backend(app.backend)
    app.close()


@pytest.fixture
def start(aws: str, clock: Any, sqs: Any) -> Callable[[Celery], Lane]:
    """Start an environment of an application; each call is one more, on the same queue."""
    urls = create_queue(sqs, "tasks")
    return lambda app: Lane(app, sqs, clock, *urls, WorkerHandler(app))


@pytest.fixture
def lane(other_app: Celery, start: Callable[[Celery], Lane]) -> Callable[[], Lane]:
    return lambda: start(other_app)


def read_as_stock(app: Celery, task_id: str) -> dict[str, Any]:
    """What the stock backend of the application reads."""
    from celery.app import backends

    kind, url = backends.by_url(app.conf.result_backend, app.loader)
    backend: Any = kind(app=app, url=url)
    found = cast("dict[str, Any]", backend.get_task_meta(task_id))
    close_backend(backend)
    return found


def test_results_are_stored_and_read_as_stock(other_app: Celery, lane: Callable[[], Lane]) -> None:
    @other_app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @other_app.task(shared=False, name="fail")
    def fail() -> None:
        raise ValueError("no")

    @other_app.task(shared=False, name="again", bind=True, max_retries=2, track_started=True)
    def again(self: Any) -> list[str]:
        if self.request.retries < 1:
            self.update_state(state="PROGRESS", meta={"at": 1})
            raise self.retry(countdown=1)
        return [other_app.AsyncResult(self.request.id).state]

    worker = lane()
    added, failed, retried = add.delay(1, 2), fail.delay(), again.delay()
    worker.run(3)
    assert (added.state, added.result) == ("SUCCESS", 3)
    assert failed.state == "FAILURE"
    assert repr(failed.result) == "ValueError('no')"
    assert retried.result == ["STARTED"]
    stock = read_as_stock(other_app, added.id)
    assert (stock["status"], stock["result"]) == ("SUCCESS", 3)
    assert "ValueError: no" in read_as_stock(other_app, failed.id)["traceback"]
    assert worker.is_empty
    added.forget()
    assert added.state == "PENDING"


def test_a_message_that_comes_twice_runs_once(other_app: Celery, lane: Callable[[], Lane]) -> None:
    """By the lease, in another store than the result, and in another environment."""
    ran: list[int] = []

    @other_app.task(shared=False, name="add")
    def add(x: int) -> None:
        ran.append(x)

    worker, other = lane(), lane()
    for environment in (worker, other):
        add.apply_async((1,), task_id="same")
        environment.drain()
    assert ran == [1]


def test_a_revoked_task_does_not_run(other_app: Celery, lane: Callable[[], Lane]) -> None:
    ran: list[int] = []

    @other_app.task(shared=False, name="add")
    def add(x: int) -> None:
        ran.append(x)

    worker = lane()
    result = add.delay(1)
    result.revoke()
    worker.drain()
    assert (ran, result.state) == ([], "REVOKED")


def test_canvas(other_app: Celery, lane: Callable[[], Lane]) -> None:
    @other_app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @other_app.task(shared=False, name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    worker = lane()
    chain = (add.s(1, 2) | add.s(3)).delay()
    both = group(add.s(number, 1) for number in range(2)).delay()
    counted = chord([add.s(number, 1) for number in range(3)])(total.s())
    worker.run(5)
    assert chain.result == 6
    assert both.results[0].result + both.results[1].result == 3
    assert counted.result == 6
    assert worker.is_empty


@pytest.fixture
def broken_database(
    aws: str, start: Callable[[Celery], Lane], tmp_path: Path
) -> Iterator[tuple[Lane, Path]]:
    pytest.importorskip("sqlalchemy")
    app = Celery("down", set_as_current=False)
    folder = tmp_path / "not-there-yet"
    app.conf.update(
        **settings(aws, f"db+sqlite:///{folder / 'results.sqlite'}"), result_backend_max_retries=0
    )
    yield start(app), folder
    app.close()


def test_a_task_does_not_fail_because_the_database_is_down(
    broken_database: tuple[Lane, Path],
) -> None:
    """Its message comes back, and its result is stored once the database is there."""
    worker, folder = broken_database

    @worker.app.task(shared=False, name="add")
    def add(x: int) -> int:
        return x + 1

    result = add.delay(1)
    worker.drain()
    assert worker.answers[0]["batchItemFailures"] != []
    folder.mkdir()
    worker.run(120)
    assert (result.state, result.result) == ("SUCCESS", 2)
    assert worker.dead_letters() == []


def test_a_result_is_not_lost_because_its_stores_library_is_missing(
    aws: str, start: Callable[[Celery], Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message comes back, in the end to the dead-letter queue."""
    monkeypatch.setitem(sys.modules, "pymongo", None)
    monkeypatch.delitem(sys.modules, "celery.backends.mongodb", raising=False)
    app = Celery("missing", set_as_current=False)
    app.conf.update(settings(aws, "mongodb://127.0.0.1/results"))

    @app.task(shared=False, name="add")
    def add(x: int) -> int:
        return x + 1

    worker = start(app)
    add.delay(1)
    worker.run(400, step=20)
    assert len(worker.dead_letters()) == 1
    sys.modules.pop("celery.backends.mongodb", None)
    app.close()


def test_a_function_keeps_its_connection_to_the_database(
    aws: str, start: Callable[[Celery], Lane], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a prefork pool's processes Celery connects for each result."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    opened: list[int] = []

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
    def connected(*_: Any) -> None:
        opened.append(1)

    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "worker")
    app = Celery("kept", set_as_current=False)
    app.conf.update(
        **settings(aws, f"db+sqlite:///{tmp_path / 'results.sqlite'}"),
        database_engine_options={"pool_pre_ping": True},
    )

    @app.task(shared=False, name="add")
    def add(x: int) -> int:
        return x + 1

    worker = start(app)
    add.delay(0)
    worker.drain()
    first = len(opened)
    for number in range(5):
        add.delay(number)
    worker.drain()
    assert 0 < first == len(opened)
    cast("Any", app.backend).let_go()  # as before a snapshot
    result = add.delay(7)
    worker.drain()
    assert (result.result, len(opened) > first) == (8, True)
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", connected)
    app.close()


def test_results_over_rpc_are_refused_at_the_start(aws: str) -> None:
    from twolane.errors import ConfigurationError

    app = Celery("rpc", set_as_current=False)
    app.conf.update(settings(aws, "rpc://"))
    with pytest.raises(ConfigurationError, match=r"rpc://.*set result_backend"):
        WorkerHandler(app)


def test_mongodb_is_made_when_a_result_is_asked_for(aws: str, redis_url: str) -> None:
    """There is no server here: nothing connects before, and then its error is an outage."""
    pymongo = pytest.importorskip("pymongo")
    from twolane.patches.clients import Trouble, trouble_of

    app = Celery("mongo", set_as_current=False)
    app.conf.update(
        settings(aws, f"mongodb://127.0.0.1:{free_port()}/results?serverSelectionTimeoutMS=50"),
        result_backend_always_retry=False,
        twolane_state_store=redis_url,
    )

    @app.task(shared=False, name="add")
    def add(x: int) -> int:
        return x

    WorkerHandler(app)
    with pytest.raises(pymongo.errors.ServerSelectionTimeoutError) as caught:
        cast("Any", app.backend).store_result("t1", 1, "SUCCESS")
    assert trouble_of(caught.value) is Trouble.DOWN
    cast("Any", app.backend).let_go()
    app.close()
