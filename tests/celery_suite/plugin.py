"""Runs Celery's own integration suite against our worker: ``pytest -p plugin t/integration``.

Start it through ``make celery-suite SUITE=DIR`` (DIR: a checkout of celery/celery, never part of
this repository). The suite is unmodified; what is replaced is ``start_worker``: in the place of
``celery worker`` a thread receives from SQS (moto) as the event source mapping does, hands the
events to ``WorkerHandler`` and deletes what it does not name. It is a thread, as the suite's own
worker is, because tests look at its signals and its log. Results are in a real Redis.

Every test that does not pass must be in ``expected.toml`` with its reason, and every test that is
there must not pass: the run fails otherwise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "handlers"), str(HERE)]

#: With "stock" the suite runs against Celery's own worker on Redis, to compare with.
STOCK = os.environ.get("CELERY_SUITE_WORKER") == "stock"
ACCOUNT = "123456789012"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} did not start") from None
        else:
            return


class Servers:
    """Redis and moto, each a child process on a free port of this machine."""

    def __init__(self) -> None:
        self.redis_port, self.aws_port = free_port(), free_port()
        redis = shutil.which("redis-server") or "redis-server"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes = [
            subprocess.Popen([redis, "--port", str(self.redis_port), "--save", ""], **quiet),
            subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-p", str(self.aws_port)],
                cwd=HERE, **quiet,
            ),
        ]  # fmt: skip
        wait_for(self.redis_port, self._processes[0])
        wait_for(self.aws_port, self._processes[1])

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)


servers = Servers()
# The suite reads its settings while its modules are imported, long before any hook or fixture.
os.environ.update(
    TEST_BROKER=f"redis://127.0.0.1:{servers.redis_port}/1" if STOCK else "sqs://",
    TEST_BACKEND=f"redis://127.0.0.1:{servers.redis_port}/0",
    REDIS_HOST="127.0.0.1",
    REDIS_PORT=str(servers.redis_port),
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{servers.aws_port}",
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_REGION="us-east-1",
    AWS_DEFAULT_REGION="us-east-1",
    # As Celery's own tox.ini has it: two tests read the worker's log.
    WORKER_LOGLEVEL="INFO",
)

# After the environment is set, and before the checkout's own celery package can be found.
import boto3  # noqa: E402
import celery.contrib.testing.app  # noqa: E402
import celery.contrib.testing.worker  # noqa: E402


def create_queue() -> str:
    """The suite's one queue, with the redrive policy that a queue of tasks should have."""
    sqs = boto3.client("sqs")
    dead = sqs.create_queue(QueueName="celery-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
    policy = f'{{"deadLetterTargetArn":"{arn["Attributes"]["QueueArn"]}","maxReceiveCount":"5"}}'
    return str(
        sqs.create_queue(
            QueueName="celery",
            Attributes={"VisibilityTimeout": "120", "RedrivePolicy": policy},
        )["QueueUrl"]
    )


if not STOCK:
    celery.contrib.testing.app.DEFAULT_TEST_CONFIG.update(
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"celery": {"url": create_queue()}},
            "sqs_base64_encoding": False,
        },
    )
    from twolane.publish import install

    install()


@contextlib.contextmanager
def start_worker(app: Any, **options: Any) -> Iterator[Any]:
    """In the place of ``celery.contrib.testing.worker.start_worker``."""
    from celery.contrib.testing.worker import setup_app_for_worker, test_worker_starting
    from celery.utils.nodenames import anon_nodename
    from lambda_worker import work

    test_worker_starting.send(sender=app)
    loglevel = options.get("loglevel", os.environ["WORKER_LOGLEVEL"])
    setup_app_for_worker(app, loglevel, options.get("logfile"))
    hostname = options.get("hostname") or anon_nodename()
    ready, stop = threading.Event(), threading.Event()
    worker = threading.Thread(target=work, args=(app, hostname, ready, stop), daemon=True)
    worker.start()
    try:
        if not ready.wait(20):
            raise RuntimeError("the worker did not start within 20 s")
        yield app
    finally:
        stop.set()
        worker.join(20)


if not STOCK:
    celery.contrib.testing.worker.start_worker = start_worker


@pytest.fixture(autouse=True)
def results_are_waited_for(request: pytest.FixtureRequest) -> None:
    """A publisher of ours opens its backend when it first waits; these tests look at it before."""
    if not STOCK and getattr(request.cls, "__name__", "") == "test_task_redis_result_backend":
        getattr(request.getfixturevalue("app").backend, "client", None)


class Expectations:
    """What does not pass, against what is listed."""

    def __init__(self, listed: dict[str, str], either: dict[str, str]) -> None:
        self.listed = listed
        self.either = either
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.seen: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.removeprefix("t/integration/")
        if getattr(report, "context", None) is not None and report.outcome != "failed":
            return  # one of a test's subtests
        self.seen.add(name)
        if report.outcome == "failed":
            self.failed.add(name)
            self.passed.discard(name)
        elif report.when == "call" and report.outcome == "passed":
            self.passed.add(name)
            self.failed.discard(name)
        elif report.outcome == "rerun":
            self.failed.discard(name)

    def problems(self) -> list[str]:
        unlisted = sorted(self.failed - self.listed.keys() - self.either.keys())
        stale = sorted(set(self.listed) & self.passed)
        return [f"failed, and is not in expected.toml: {name}" for name in unlisted] + [
            f"passed, but is in expected.toml: {name}" for name in stale
        ]


def read_expected(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Test → reason: of those that fail, and of those that a slow machine fails.

    At most five tests may be given up because of our worker.
    """
    release = ".".join(celery.__version__.split(".")[:2])
    nothing: dict[str, dict[str, str]] = {"ours": {}, "elsewhere": {}, "slow": {}}
    listed = {**nothing, **tomllib.loads(path.read_text()).get(release, {})}
    if len(listed["ours"]) > 5 or len(listed["slow"]) > 3:
        raise RuntimeError("more of Celery's suite is given up than may be; see expected.toml")
    return {**listed["ours"], **listed["elsewhere"]}, listed["slow"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "flaky: of pytest-rerunfailures")
    if not STOCK:
        config.pluginmanager.register(
            Expectations(*read_expected(HERE / "expected.toml")), "expectations"
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    expectations = session.config.pluginmanager.get_plugin("expectations")
    if expectations is not None:
        session.exitstatus = 1 if expectations.problems() or not expectations.passed else 0


def pytest_terminal_summary(terminalreporter: Any) -> None:
    expectations = terminalreporter.config.pluginmanager.get_plugin("expectations")
    if expectations is not None:
        terminalreporter.section("Celery's integration suite on our worker")
        terminalreporter.line(
            f"{len(expectations.passed)} passed, {len(expectations.failed)} did not, "
            f"{len(expectations.seen - expectations.passed - expectations.failed)} were skipped"
        )
        for problem in expectations.problems():
            terminalreporter.line(problem, red=True)


def pytest_unconfigure() -> None:
    servers.stop()
