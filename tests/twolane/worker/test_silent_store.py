"""A store that says nothing: the handler answers before its deadline, and init goes on without it.

The store is behind real sockets that are dropped without a word: a server that takes connections
and never answers, a listening socket whose queue is full, and a proxy that stops handing on in the
middle of a batch.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from celery import Celery

from twolane import BeatHandler, WorkerHandler
from twolane.environment.invocation import LEAST_S, RESERVE_S, within
from twolane.publish.claimcheck import pointer_to
from twolane.publish.errors import EnqueueError
from twolane.publish.installation import install
from twolane.state import open_store
from twolane_local.testing.processes.live import Proxy

from .conftest import body, event, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow
DEADLINE_S = 10.0
#: Which of the servers that a sentinel knows; nothing to other stores.
PRIMARY = {"result_backend_transport_options": {"master_name": "primary"}}


class Context:
    """An invocation of a function with this timeout, from now."""

    aws_request_id = "r1"

    def __init__(self, timeout_s: float = DEADLINE_S) -> None:
        self._ends = time.monotonic() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends - time.monotonic()) * 1000)


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes each connection, reads what comes, and never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


@contextmanager
def full_server() -> Iterator[int]:
    """Listens, and lets nobody in: the system drops the first packet of each new connection."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = int(server.getsockname()[1])
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for one in waiting:
                one.close()


class Relay:
    """``Proxy`` on a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.proxy = Proxy(host, port)
        self._run(self.proxy.__aenter__())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        self._run(self.proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def relay() -> Iterator[Callable[[str], Relay]]:
    started: list[Relay] = []

    def start(url: str) -> Relay:
        at = urlsplit(url)
        started.append(Relay(str(at.hostname), int(at.port or 0)))
        return started[-1]

    yield start
    for one in started:
        one.close()


class Queues:
    """SQS, which answers."""

    def send(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be sent")

    def change_visibility(self, queue_arn: str, changes: Sequence[tuple[str, int]]) -> None:
        self.changed = list(changes)


def application(backend: str, **settings: Any) -> Celery:
    app = Celery("silent", set_as_current=False)
    app.conf.update(
        broker_url="sqs://", task_default_queue="tasks", result_backend=backend, **settings
    )

    @app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


@pytest.fixture
def _account(own_environ: None) -> None:
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-east-1"
    )


def backend(store: str, port: int) -> str:
    if store in {"redis", "sentinel"}:
        return f"{store}://127.0.0.1:{port}/0"
    return f"dynamodb://@127.0.0.1:{port}/results?region=us-east-1&ttl_seconds=-1"


def batch() -> dict[str, Any]:
    return event(*(record(body("add", 1, 2, task_id=f"t{n}"), f"m{n}") for n in range(10)))


def all_returned() -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": f"m{n}"} for n in range(10)]}


@pytest.mark.parametrize("server", [silent_server, full_server])
@pytest.mark.parametrize("store", ["redis", "sentinel", "dynamodb"])
@pytest.mark.usefixtures("_account")
def test_a_store_that_never_answers(store: str, server: Callable[[], Any]) -> None:
    with server() as port:
        app = application(backend(store, port), worker_send_task_events=True, **PRIMARY)
        began = time.monotonic()
        handler = WorkerHandler(app, queues=Queues(), environ={})
        assert time.monotonic() - began < 3.0
        context = Context(DEADLINE_S if server is silent_server else 3.0)
        assert handler(batch(), context) == all_returned()
        assert context.get_remaining_time_in_millis() > 100


@contextmanager
def sentinel(primary: int, folder: Path) -> Iterator[int]:
    """A real one that knows one server."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = int(found.getsockname()[1])
    settings = folder / "sentinel.conf"
    settings.write_text(f"port {port}\nsentinel monitor primary 127.0.0.1 {primary} 1\n")
    command = [shutil.which("redis-server") or "redis-server", str(settings), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        # It says so once it takes connections.
        assert any("+monitor master primary" in line for line in process.stdout)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.parametrize("store", ["redis", "sentinel", "dynamodb"])
@pytest.mark.usefixtures("_account")
def test_a_store_that_falls_silent_in_a_batch(
    store: str, relay: Callable[[str], Relay], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("aws_server" if store == "dynamodb" else "redis_url")
    proxy = relay(url).proxy
    if store == "dynamodb":
        make_table(url)
    with sentinel(proxy.port, tmp_path) if store == "sentinel" else nullcontext(proxy.port) as port:
        falls_silent(backend(store, port), proxy)


@pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")
@pytest.mark.usefixtures("_account", "real_redis")
def test_no_call_is_repeated_once_no_time_is_left(
    relay: Callable[[str], Relay], redis_url: str
) -> None:
    """As in production, where Celery's warning is no error and more calls follow."""
    proxy = relay(redis_url).proxy
    falls_silent(backend("redis", proxy.port), proxy, least_ms=1000 * (RESERVE_S - LEAST_S))


def falls_silent(url: str, proxy: Proxy, least_ms: float = 100) -> None:
    gc.collect()  # results of other tests unsubscribe when they are collected
    app = application(url, task_track_started=True, **PRIMARY)
    handler = WorkerHandler(app, queues=Queues(), environ={})
    assert handler(batch(), Context()) == {"batchItemFailures": []}

    proxy.silence_after(b"celery-task-meta-later")
    context = Context()
    later = [record(body("add", 1, 2, task_id=f"later{n}"), f"m{n}") for n in range(10)]
    assert handler(event(*later), context) == all_returned()
    assert context.get_remaining_time_in_millis() > least_ms

    proxy.speak()
    again = [record(body("add", 1, 2, task_id=f"anew{n}"), f"m{n}") for n in range(10)]
    assert handler(event(*again), Context()) == {"batchItemFailures": []}


def make_table(url: str) -> None:
    import boto3

    client = boto3.client("dynamodb", "us-east-1", endpoint_url=url)
    if "results" not in client.list_tables()["TableNames"]:
        client.create_table(
            TableName="results",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    client.close()


@pytest.mark.usefixtures("_account")
def test_a_bucket_that_never_answers() -> None:
    """A publish says so; a worker returns its messages, and runs those that need no bucket."""
    with silent_server() as port:
        url = f"http://127.0.0.1:{port}"
        os.environ.update(AWS_ENDPOINT_URL_S3=url, AWS_DEFAULT_REGION="us-east-1")
        app = application("cache+memory://", task_ignore_result=True)
        app.conf.broker_transport_options = {
            "predefined_queues": {"tasks": {"url": f"{url}/123456789012/tasks"}},
            "claim_check": {"bucket": "bodies"},
        }
        install()
        began = time.monotonic()
        with within(3.0), pytest.raises(EnqueueError):
            app.send_task("add", ("x" * 1_100_000, "y"))
        assert time.monotonic() - began < 3.0
        handler = WorkerHandler(app, queues=Queues(), environ={})
        away = [record(pointer_to("bodies", f"claim-check/{n}"), f"m{n}") for n in range(9)]
        context = Context()
        here = record(body("add", 1, 2, task_id="here"), "here")
        returned = handler(event(*away, here), context)
        assert returned == {"batchItemFailures": all_returned()["batchItemFailures"][:9]}
        assert context.get_remaining_time_in_millis() > 1000
        app.close()


@pytest.mark.parametrize("store", ["redis", "dynamodb"])
@pytest.mark.usefixtures("_account")
def test_beat_gives_up_before_its_deadline(store: str) -> None:
    with silent_server() as port:
        app = application(backend(store, port))
        app.conf.beat_schedule = {"often": {"task": "add", "schedule": 60.0, "args": (1, 2)}}
        handler, context = BeatHandler(app), Context(4.0)
        with pytest.raises(Exception, match="did not answer"):
            handler({"time": "2026-01-01T00:00:00Z"}, context)
        assert context.get_remaining_time_in_millis() > 0


@pytest.mark.parametrize("server", [silent_server, full_server])
@pytest.mark.usefixtures("_account")
def test_queue_and_scheduler_that_never_answer(server: Callable[[], Any]) -> None:
    from twolane.worker.aws import Scheduler, Sqs

    arn = "arn:aws:sqs:us-east-1:123456789012:tasks"
    with server() as port:
        url = f"http://127.0.0.1:{port}"
        os.environ.update(AWS_ENDPOINT_URL=url)
        # By boto3, where the credentials are not in the environment that the worker was given.
        for environ in ({**os.environ}, {"AWS_ENDPOINT_URL": url}):
            began = time.monotonic()
            with within(2.0):
                Sqs(environ).change_visibility(arn, [("r", 1)])
                with pytest.raises(EnqueueError):
                    Sqs(environ).send(arn, "body", delay_s=0, attributes={})
                with pytest.raises(EnqueueError):
                    Scheduler(environ).create("us-east-1", {"GroupName": "g", "Name": "n"})
            assert time.monotonic() - began < 3.0


@pytest.mark.parametrize("server", [silent_server, full_server])
@pytest.mark.parametrize(
    ("queue", "environ", "options"),
    [
        ("tasks", {}, {}),
        # By kombu's own transport and boto3, from here on.
        ("tasks.fifo", {}, {}),
        ("tasks", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, {}),
        ("tasks", {}, {"sts_role_arn": "arn:aws:iam::123456789012:role/publisher"}),
    ],
    ids=["light", "fifo", "dual-stack", "assumed-role"],
)
@pytest.mark.usefixtures("_account")
def test_a_publish_gives_up_before_the_deadline(
    queue: str, environ: dict[str, str], options: dict[str, str], server: Callable[[], Any]
) -> None:
    with server() as port:
        url = f"http://127.0.0.1:{port}"
        os.environ.update(environ, AWS_ENDPOINT_URL=url, AWS_DEFAULT_REGION="us-east-1")
        app = application("cache+memory://")
        named = {queue: {"url": f"{url}/123456789012/{queue}"}}
        app.conf.broker_transport_options = {
            "region": "us-east-1", "predefined_queues": named, **options
        }  # fmt: skip
        install()
        began = time.monotonic()
        with within(3.0), pytest.raises(EnqueueError):
            app.send_task("add", (1, 2), queue=queue)
        assert time.monotonic() - began < 3.5
        app.close()


@pytest.mark.parametrize("store", ["redis", "dynamodb"])
@pytest.mark.usefixtures("_account")
def test_the_api_answers_before_its_deadline(store: str) -> None:
    from fastapi import FastAPI

    from twolane import ApiHandler, tasks_router

    with silent_server() as port:
        began = time.monotonic()
        api = FastAPI()
        api.include_router(tasks_router(application(backend(store, port))))
        handler = ApiHandler(api)
        assert time.monotonic() - began < 3.0
        path = "/tasks/3f1a0c51-6c33-4c23-9a8e-0f4b1a7d6a11"
        http = {"method": "GET", "path": path, "sourceIp": "203.0.113.7", "protocol": "H"}
        context: Any = Context(3.0)
        answer = handler(
            {
                "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {},
                "requestContext": {"http": http, "stage": "$default"}, "isBase64Encoded": False,
            },
            context,
        )  # fmt: skip
        handler.close()
        assert answer["statusCode"] >= 500, answer
        assert context.get_remaining_time_in_millis() > 0


def test_what_the_application_has_set_is_respected() -> None:
    with silent_server() as port:
        app = application(backend("redis", port), redis_socket_timeout=0.2)
        began = time.monotonic()
        assert WorkerHandler(app, queues=Queues(), environ={})(batch(), Context()) == all_returned()
        assert time.monotonic() - began < 2.0
        # Outside of an invocation its own limit holds alone, as everywhere in Celery.
        app = application(backend("redis", port), redis_socket_timeout=1.5)
        open_store(app)
        began = time.monotonic()
        with pytest.raises(Exception, match="Timeout"):
            app.backend.client.get("x")  # type: ignore[attr-defined]
        assert 1.4 < time.monotonic() - began < 4.0
