"""What a test costs: with the fixture ``twolane``, with ``celery_worker``, with eager tasks.

Each test posts to an API, has the task run, and asserts its result. The peers run the same FastAPI
and Celery application: ``celery_worker`` is Celery's own worker thread (``celery.contrib.testing``,
which the fixture of that name starts) on an SQS queue of moto; ``task_always_eager`` calls the task
in place, without queue, serialiser, retries or time. Ratios are of medians, taken side by side.
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _table import Row, parser, report, row

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS, PEER_TESTS, COLLECTIONS = 60, 5, 25
#: With a back-off that doubles from a minute on, the last one is more than a day after the first.
RETRIES = 11
TEMPLATE = Path(__file__).parent.parent / "template.yaml"


def application(**conf: Any) -> tuple[Any, Any]:
    """A FastAPI and a Celery application with one task."""
    from celery import Celery
    from fastapi import FastAPI

    celery = Celery("bench", set_as_current=False)
    celery.conf.update(task_default_queue="tasks", accept_content=["json"], **conf)

    @celery.task(name="bench.double", shared=False)
    def double(number: int) -> int:
        return 2 * number

    @celery.task(name="bench.chain", bind=True, max_retries=RETRIES, shared=False)
    def chain(self: Any) -> int:
        if self.request.retries < RETRIES:
            raise self.retry(countdown=60 * 2**self.request.retries)
        return int(self.request.retries)

    app = FastAPI()

    @app.post("/double/{number}")
    def publish(number: int) -> dict[str, str]:
        return {"id": double.delay(number).id}

    @app.post("/chain")
    def publish_chain() -> dict[str, str]:
        return {"id": chain.delay().id}

    return app, celery


class Ours:
    """The small application on the stack, its handlers given as objects."""

    def __init__(self) -> None:
        from twolane import ApiHandler, WorkerHandler
        from twolane_local.aws.guard import DUMMY_CREDENTIALS
        from twolane_local.testing.project import of_handlers, queue_url
        from twolane_local.testing.stores import URL

        queues = {"tasks": {"url": queue_url("tasks")}}
        app, self.celery = application(
            broker_url="sqs://",
            broker_transport_options={"region": "us-east-1", "predefined_queues": queues},
            result_backend=URL,
        )
        # Delays above SQS's 900 s are one-time schedules, as in the template.
        environ = {
            **os.environ,
            **DUMMY_CREDENTIALS,
            "TWOLANE_SCHEDULER_ROLE_ARN": "arn:aws:iam::123456789012:role/long-delays",
            "TWOLANE_SCHEDULER_GROUP": "default",
        }
        worker = WorkerHandler(self.celery, environ=environ)
        self.project = of_handlers(api=ApiHandler(app), worker=worker)

    @contextlib.contextmanager
    def fixture(self) -> Iterator[Any]:
        from twolane_local.testing.stack import Twolane

        with Twolane(self.project) as twolane:
            yield twolane

    def test(self, twolane: Any) -> None:
        identity = twolane.client.post("/double/21").json()["id"]
        twolane.deferred.run()
        assert self.celery.AsyncResult(identity).result == 42

    def day(self, twolane: Any) -> None:
        identity = twolane.client.post("/chain").json()["id"]
        twolane.deferred.run_until_idle()
        assert self.celery.AsyncResult(identity).result == RETRIES
        assert twolane.clock.time - twolane.world.started_at >= 86_400


class Demo:
    """The application of this repository, from its template."""

    @contextlib.contextmanager
    def fixture(self) -> Iterator[Any]:
        from twolane_local.testing.project import of_template
        from twolane_local.testing.stack import Twolane

        with Twolane(of_template(TEMPLATE, {})) as twolane:
            yield twolane

    def test(self, twolane: Any) -> None:
        notification = {"email": "ann@example.com", "message": "hello"}
        identity = twolane.client.post("/notify/deferred", json=notification).json()["id"]
        twolane.deferred.run()
        assert twolane.tasks[identity].state == "SUCCESS"


class Eager:
    """``task_always_eager``, as a fixture would set it."""

    def __init__(self) -> None:
        self.app, self.celery = application(
            task_always_eager=True, task_store_eager_result=True, result_backend="cache+memory://"
        )

    @contextlib.contextmanager
    def fixture(self) -> Iterator[Any]:
        from fastapi.testclient import TestClient

        with TestClient(self.app) as client:
            yield client

    def test(self, client: Any) -> None:
        identity = client.post("/double/21").json()["id"]
        assert self.celery.AsyncResult(identity).result == 42


class Worker:
    """``celery_worker`` on a queue of moto, served on a port: kombu does not poll through boto3."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.app, self.celery = application(
            broker_url=f"sqs://local:local@127.0.0.1:{port}",
            broker_transport_options={
                "region": "us-east-1",
                "is_secure": False,
                "polling_interval": 0.01,
                "wait_time_seconds": 0,
                "predefined_queues": {"tasks": {"url": f"{self.url}/123456789012/tasks"}},
            },
            result_backend="cache+memory://",
        )

    @contextlib.contextmanager
    def fixture(self) -> Iterator[Any]:
        import boto3
        from celery.contrib.testing.worker import start_worker
        from fastapi.testclient import TestClient

        sqs = boto3.client(
            "sqs",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        sqs.create_queue(QueueName="tasks")
        worker = start_worker(self.celery, pool="solo", perform_ping_check=False)
        with worker, TestClient(self.app) as client:
            yield client

    def test(self, client: Any) -> None:
        identity = client.post("/double/21").json()["id"]
        assert self.celery.AsyncResult(identity).get(timeout=20, interval=0.005) == 42


def times(of: Any, count: int, test: str = "test") -> tuple[float, float]:
    """Median milliseconds of set-up with teardown, and of the test, after a first one."""
    around, inside = [], []
    for number in range(count + 1):
        began = time.perf_counter()
        with of.fixture() as value:
            ready = time.perf_counter()
            getattr(of, test)(value)
            done = time.perf_counter()
        ended = time.perf_counter()
        if number:
            around.append((ready - began + ended - done) * 1000)
            inside.append((done - ready) * 1000)
    return statistics.median(around), statistics.median(inside)


def collection_ratio() -> float:
    """``pytest --collect-only`` of one empty test, with the plugin beside without it.

    Both look for plugins, as pytest does; no other one is loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_empty.py").write_text("def test_nothing(): pass\n")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        others = [each.name for each in entry_points(group="pytest11") if each.name != "twolane"]
        plain = [sys.executable, "-m", "pytest", "-q", "--collect-only"]

        def run(*without: str) -> float:
            options = [f"-pno:{name}" for name in ("cacheprovider", *others, *without)]
            began = time.perf_counter()
            subprocess.run(
                [*plain, *options], cwd=folder, env=environ, check=True, capture_output=True
            )
            return time.perf_counter() - began

        return statistics.median(run() / run("twolane") for _ in range(COLLECTIONS))


def measure() -> Iterator[Row]:
    from twolane_local.testing import application_code as code

    for name in ("celery", "werkzeug", "twolane"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    ours = Ours()
    around, inside = times(Demo(), TESTS)
    yield row("twolane, demo app from its template: setup and teardown", around, "ms", "<= 15")
    yield row("twolane, demo app: post, run the deferred lane, assert", inside, "ms", "<= 10")
    own_around, own_inside = times(ours, TESTS)
    yield row("twolane, small app: setup and teardown", own_around, "ms", "<= 15")
    yield row("twolane, small app: post, run, assert", own_inside, "ms", "<= 10")
    _, day = times(ours, 20, "day")
    yield row("twolane: 11 retries with back-off, over more than a day", day, "ms", "<= 50")
    eager_around, eager_inside = times(Eager(), TESTS)
    yield row("task_always_eager: setup and teardown", eager_around, "ms")
    yield row("task_always_eager: post, assert", eager_inside, "ms")
    yield from beside_a_worker(own_around + own_inside)
    code.close()
    yield row("collect-only of an empty suite: with the plugin / without", collection_ratio(),
              "ratio", "<= 1.05")  # fmt: skip


def beside_a_worker(own: float) -> Iterator[Row]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        around, inside = times(Worker(server.get_host_and_port()[1]), PEER_TESTS)
    finally:
        server.stop()
    yield row("celery_worker + moto: setup and teardown", around, "ms")
    yield row("celery_worker + moto: post, wait, assert", inside, "ms")
    yield row("celery_worker + moto / twolane, a whole test", (around + inside) / own, "ratio",
              ">= 5")  # fmt: skip


if __name__ == "__main__":
    flags = parser(__doc__).parse_args()
    report("testing", measure(), as_json=flags.json)
