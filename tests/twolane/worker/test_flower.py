"""Real Flower, started as its users start it, shows a system that runs in Lambda functions."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import body, event, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HANDLERS = Path(__file__).parents[3] / "handlers"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("flower") is None and "CI" not in os.environ,
        reason="Flower is not installed; pip install flower",
    ),
]

#: An application as its author writes it, and a module of a function that publishes for it.
SHOP = """
import os
from celery import Celery

celery = Celery("shop")
celery.conf.update(
    broker_url="sqs://",
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": "http://127.0.0.1:1/123456789012/tasks"}},
    },
    task_default_queue="tasks",
    result_backend=os.environ["RESULT_BACKEND"],
    worker_send_task_events=True,
)

@celery.task(name="shop.add")
def add(x, y):
    return x + y

@celery.task(name="shop.fail")
def fail():
    raise ValueError("no")
"""
MONITORED = """
from shop import celery
from twolane import BeatHandler
handler = BeatHandler(celery)
"""
WORKER = """
import json
import sys
from shop import celery
from twolane import WorkerHandler
handler = WorkerHandler(celery, hostname="celery@lambda-1")
print(json.dumps(handler(json.load(sys.stdin))))
"""


@pytest.fixture
def environ(tmp_path: Path, redis_url: str) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "monitored.py").write_text(MONITORED)
    return {
        **os.environ,
        "RESULT_BACKEND": redis_url,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HANDLERS)]),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "FLOWER_UNAUTHENTICATED_API": "true",
    }


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    pause = threading.Event()
    while time.monotonic() < deadline:
        if found := holds():
            return found
        pause.wait(0.1)
    raise AssertionError(f"{what}: not within 60 s")


class Flower:
    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """What Flower answers, read; ``None`` while it does not."""
        try:
            with urllib.request.urlopen(self._base + path, timeout=10) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return None
        return json.loads(text) if text.startswith(("{", "[")) else text


@pytest.fixture(params=["application", "broker"])
def flower(
    request: pytest.FixtureRequest, environ: dict[str, str], redis_url: str, tmp_path: Path
) -> Iterator[Flower]:
    """By the application; and by the address of Redis alone."""
    known = ["-A", "monitored"] if request.param == "application" else [f"--broker={redis_url}"]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", *known, "flower", "--address=127.0.0.1", f"--port={port}"],
        env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        flower = Flower(port)
        wait_until(lambda: flower.get("/healthcheck"), "Flower")
        yield flower
    finally:
        process.terminate()
        process.wait(20)


def test_flower_shows_workers_and_tasks(
    flower: Flower, environ: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    batch = event(
        record(body("shop.add", 1, 2, task_id="t1")), record(body("shop.fail", task_id="t2"))
    )
    ran = subprocess.run(
        [sys.executable, "-c", WORKER], input=json.dumps(batch), env=environ, cwd=tmp_path,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(ran.stdout) == {"batchItemFailures": []}

    tasks = wait_until(
        lambda: (found := flower.get("/api/tasks")) and len(found) == 2 and found, "tasks"
    )
    assert tasks["t1"]["state"] == "SUCCESS"
    assert tasks["t1"]["result"] == "3"
    assert tasks["t2"]["state"] == "FAILURE"
    assert tasks["t2"]["exception"] == "ValueError('no')"
    assert {one["worker"] for one in tasks.values()} == {"celery@lambda-1"}
    assert flower.get("/api/workers?status=1") == {"celery@lambda-1": True}
    (row,) = flower.get("/workers?json=1")["data"]
    assert (row["task-succeeded"], row["task-failed"]) == (1, 1)

    workers = flower.get("/api/workers?refresh=1")
    if "application" in request.node.name:
        # Flower's inspect is the application's own: the store answers for what is frozen.
        assert set(workers["celery@lambda-1"]["registered"]) == {"shop.add", "shop.fail"}
        assert workers["celery@lambda-1"]["stats"]["pool"]["max-concurrency"] == 1
    else:
        assert workers == {}  # a broadcast finds nobody
