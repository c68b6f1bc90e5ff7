"""Servers that a test asks for by name; nothing is started for a test that does not."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from http.server import BaseHTTPRequestHandler

    from twolane_local.emulator import Emulator
    from twolane_local.model import Options

# A checkout that passes must pass again: what has not changed is not rejected for an example that
# chance found. `make fuzz` looks for new ones.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("fresh", derandomize=False)
settings.load_profile("fixed")


#: Of the default run. Begun last, one of them would be waited for while the other cores are idle.
LONGEST = (
    "twolane_local/testing/simulation/test_play.py",
    "docs/test_pages.py",
    "twolane_local/testing/simulation/test_placements.py",
    "twolane_local/emulator/test_emulator.py",
    "e2e/test_commands.py",
    "twolane/worker/test_malformed.py",
    "e2e/test_up.py",
    "infra/test_combinations.py",
    "twolane_local/lambda_/test_isolated.py",
    "test_architecture.py",
    "docs/test_runner.py",
    "faults/test_matrix.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    order = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(autouse=True)
def _no_trace_in_celery() -> Iterator[None]:
    """Celery offers every application's tasks to each later one, and makes the last one current."""
    state = sys.modules.get("celery._state")
    finalizers = set(state._on_app_finalizers) if state else set()
    current = state._tls.current_app if state else None
    yield
    if state := sys.modules.get("celery._state"):
        state._on_app_finalizers.intersection_update(finalizers)
        state._tls.current_app = current


@pytest.fixture(autouse=True)
def _no_trace_in_logging() -> Iterator[None]:
    """In an execution environment the runtime sets up logging for the whole process."""
    root = logging.getLogger()
    formatters = [(handler, handler.formatter) for handler in root.handlers]
    loggers = [root, *map(logging.getLogger, ("botocore", "mangum", "twolane"))]
    levels = [(logger, logger.level) for logger in loggers]
    own = loggers[-1]
    before = own.handlers[:], own.propagate
    yield
    own.handlers[:], own.propagate = before
    for handler, formatter in formatters:
        handler.setFormatter(formatter)
    for logger, level in levels:
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def own_environ() -> Iterator[None]:
    """Put the environment's contents back, in the very mapping that libraries keep hold of.

    For every test: a handler that is called in this process has its function's variables there.
    """
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class Serve(Protocol):
    """``with serve(Handler) as address``: an HTTP server on a thread, at ``host:port``."""

    def __call__(self, handler: type[BaseHTTPRequestHandler], /) -> AbstractContextManager[str]: ...


@pytest.fixture(scope="session")
def serve() -> Serve:
    """An HTTP server of a test's own, whose answers it writes itself."""

    @contextmanager
    def serve(handler: type[BaseHTTPRequestHandler], /) -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True  # a client that stays connected must not hold up the end
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return serve


class Emulate(Protocol):
    """``emulate(options, script)`` runs the script beside a started emulator."""

    def __call__(
        self, options: Options, script: Callable[[Emulator], Awaitable[None]], /
    ) -> None: ...


@pytest.fixture
def emulate(own_environ: None) -> Emulate:
    """An emulator in this process, which is stopped whatever comes of the script."""
    from .twolane_local.running import run

    return run


class RunPython(Protocol):
    """``run_python(code)`` returns what the code prints."""

    def __call__(self, code: str, /) -> str: ...


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """A Python process of its own, for what is imported and set up when one starts."""

    def run_python(code: str, /) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_python


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A Redis without persistence; its address without a database number.

    It is the one that ``twolane up`` would start: ``redis-server``, else the embedded server.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        from twolane_local.aws.redis import open_store

        store = asyncio.run(open_store(None))
        yield store.url.rpartition("/")[0]
        asyncio.run(store.stop())
        return
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "redis-server ended before it took a connection"
                assert time.monotonic() < deadline, "redis-server took no connection within 10 s"
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def real_redis() -> None:
    """For what the embedded server does not do: the test is skipped without ``redis-server``."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH; install it (apt-get install redis-server)")


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty database of a Redis."""
    import redis

    with redis.Redis.from_url(f"{redis_server}/0") as client:
        client.flushall()
    return f"{redis_server}/0"


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """moto as a server: for what speaks HTTP itself, which no mock of boto3 would see."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@functools.cache
def _session() -> Any:
    import boto3

    return boto3.Session(region_name="us-east-1")


@pytest.fixture
def results_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A DynamoDB client, in an account of moto's own with a table as the template makes it."""
    import boto3
    from moto import mock_aws

    from twolane_local.aws.moto.dynamodb import one_request_at_a_time

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws(), one_request_at_a_time():
        # moto puts the default session away, and a new one reads all of botocore's models again.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", _session())
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName="results",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client
