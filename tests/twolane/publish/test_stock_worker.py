"""A stock ``celery worker``, fed by kombu's own SQS transport, runs what the light path sends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, group

if TYPE_CHECKING:
    from pathlib import Path

    from celery import Celery

WORKER = """
from celery import Celery
{before}
app = Celery("shop", broker="sqs://")
app.conf.update(
    broker_transport_options={{
        "region": "us-east-1",
        "predefined_queues": {{"tasks": {{"url": {url!r}}}}},
        "wait_time_seconds": 1, "polling_interval": 0.05,
    }},
    task_default_queue="tasks", worker_enable_remote_control=False,
)

@app.task(name="shop.add")
def add(x, y):
    print(f"ADDED {{x + y}}", flush=True)
    return x + y

@app.task(name="shop.again", bind=True, default_retry_delay=0)
def again(self):
    if not self.request.retries:
        raise self.retry()
    print(f"AGAIN OF {{self.request.properties.get('MessageGroupId')}}", flush=True)
"""


@pytest.mark.parametrize(
    ("before", "tenant_of_a_retry"),
    [
        # Celery itself drops the message group at a retry.
        pytest.param("", "None", id="stock"),
        pytest.param(
            "from twolane.publish import install; install()",
            "customer-1",
            id="with the light publisher, which hands consuming over",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_stock_worker_runs_what_we_publish(
    app: Celery, queue: Any, tmp_path: Path, before: str, tenant_of_a_retry: str
) -> None:
    (tmp_path / "shop.py").write_text(textwrap.dedent(WORKER.format(url=queue.url, before=before)))
    add = app.tasks["shop.add"]
    add.delay(1, 1)
    add.apply_async((2, 2), priority=3, headers={"tenant": "a"}, countdown=1)
    group(add.s(n, 10) for n in range(12)).delay()
    chain(add.s(100, 1), add.s(1000)).delay()
    app.send_task("shop.again", MessageGroupId="customer-1")
    expected = {2, 4, *range(10, 22), 101, 1101}
    options = ["-P", "solo", "-l", "WARNING", "--without-mingle", "--without-gossip"]
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", *options]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    worker = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    give_up = threading.Timer(60, worker.kill)
    give_up.start()
    added: set[int] = set()
    tenant = ""
    lines: list[str] = []
    try:
        assert worker.stdout is not None
        for line in worker.stdout:
            lines.append(line)
            if "ADDED " in line:
                added.add(int(line.rpartition("ADDED ")[2]))
            if "AGAIN OF " in line:
                tenant = line.split("AGAIN OF ")[1].strip()
            if added == expected and tenant:
                break
    finally:
        give_up.cancel()
        worker.kill()
        worker.communicate()
    assert added == expected, "".join(lines)
    assert tenant == tenant_of_a_retry
