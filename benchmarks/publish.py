"""What an enqueue costs its caller: the light publisher beside kombu's SQS transport and boto3.

Each publisher runs in a process of its own, against a server of its own that costs next to nothing;
rounds alternate, so that a busy machine slows all alike, and ratios are of medians. CPU is the
client process's; the group is in wall time, with the answer of a server that takes 5 ms, about what
SQS takes in its own region.

    python benchmarks/publish.py [--json] [--rounds N]
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ENQUEUES = 400
CHUNKS = 10
GROUP = 100
LATENCY_S = 0.005
PUBLISHERS = ("light", "stock", "boto3")


@contextmanager
def server(latency_s: float) -> Iterator[str]:
    """The stand-in for SQS; its address."""
    command = [sys.executable, str(HERE / "_sqs_server.py"), str(latency_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def celery_task(url: str, *, light: bool) -> Any:
    from celery import Celery

    if light:
        from twolane.publish import install

        install()
    app = Celery("shop", broker="sqs://")
    app.conf.update(
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": f"{url}/1/tasks"}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        task_ignore_result=True,
    )

    @app.task(name="shop.notify")
    def notify(email: str, message: str) -> str:
        return f"{message} to {email}"

    return notify


def enqueue_of(publisher: str, url: str) -> Callable[[], Any]:
    """One enqueue of a small task, the way of ``publisher``."""
    if publisher == "boto3":
        import boto3

        client = boto3.client("sqs")
        headers = {"task": "shop.notify", "pad": "x" * 700}

        def send() -> None:
            """No Celery at all: an id, an envelope of the same size, a request."""
            arguments = json.dumps([["user@example.com", "hello"], {}, {}]).encode()
            envelope = {
                "body": base64.b64encode(arguments).decode(),
                "headers": {"id": str(uuid.uuid4()), **headers},
            }
            client.send_message(QueueUrl=f"{url}/1/tasks", MessageBody=json.dumps(envelope))

        return send
    task = celery_task(url, light=publisher == "light")
    return lambda: task.delay("user@example.com", "hello")


def measure_cpu(publisher: str) -> float:
    """Microseconds of this process's CPU for each enqueue."""
    with server(0) as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        enqueue = enqueue_of(publisher, url)
        for _ in range(50):
            enqueue()
        spent = []
        for _ in range(CHUNKS):
            started = time.process_time()
            for _ in range(ENQUEUES // CHUNKS):
                enqueue()
            spent.append((time.process_time() - started) / (ENQUEUES // CHUNKS) * 1e6)
        return statistics.median(spent)


def measure_group(publisher: str) -> float:
    """Milliseconds of wall time for one group."""
    from celery import group

    with server(LATENCY_S) as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        task = celery_task(url, light=publisher == "light")
        task.delay("user@example.com", "hello")
        times = []
        for _ in range(3):
            started = time.perf_counter()
            group(task.s(f"user{n}@example.com", "hello") for n in range(GROUP)).delay()
            times.append((time.perf_counter() - started) * 1e3)
        return statistics.median(times)


def in_child(what: str, publisher: str) -> float:
    environ = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_SQS"):
        environ.pop(name, None)
    command = [sys.executable, __file__, "--measure", what, publisher]
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, timeout=120)
    return float(done.stdout)


def rows(rounds: int) -> list[_table.Row]:
    cpu: dict[str, list[float]] = {publisher: [] for publisher in PUBLISHERS}
    wall: dict[str, list[float]] = {"light": [], "stock": []}
    for _ in range(rounds):
        for publisher in PUBLISHERS:
            cpu[publisher].append(in_child("cpu", publisher))
        for publisher, values in wall.items():
            values.append(in_child("group", publisher))
    spent = {publisher: statistics.median(values) for publisher, values in cpu.items()}
    took = {publisher: statistics.median(values) for publisher, values in wall.items()}
    return [
        _table.row("CPU of task.delay(), light", spent["light"], "us"),
        _table.row("CPU of task.delay(), kombu SQS", spent["stock"], "us"),
        _table.row("CPU of boto3 without Celery", spent["boto3"], "us"),
        _table.row("CPU, light / kombu SQS", spent["light"] / spent["stock"], "ratio", "<= 0.5"),
        _table.row("CPU, light / boto3", spent["light"] / spent["boto3"], "ratio", "<= 0.6"),
        _table.row(f"group of {GROUP}, light", took["light"], "ms"),
        _table.row(f"group of {GROUP}, kombu SQS", took["stock"], "ms"),
        _table.row(
            f"group of {GROUP}, times faster", took["stock"] / took["light"], "ratio", ">= 5"
        ),
    ]


def main() -> None:
    flags = _table.parser(__doc__)
    flags.add_argument("--rounds", type=int, default=7)
    flags.add_argument("--measure", nargs=2, metavar=("WHAT", "PUBLISHER"))
    chosen = flags.parse_args()
    if chosen.measure:
        what, publisher = chosen.measure
        print(measure_cpu(publisher) if what == "cpu" else measure_group(publisher))
        return
    _table.report("Publishing", rows(chosen.rounds), as_json=chosen.json)


if __name__ == "__main__":
    main()
