"""Tasks a second through ``WorkerHandler``, a stock ``celery worker``, and Celery's tracer alone.

All are given the same no-op task. Ours takes batches of ten SQS records, in this process; the stock
workers take as many messages from Redis, in processes of their own, timed from the first start to
the last one's end. Log level is WARNING everywhere, and Celery's ``USE_FAST_LOCALS`` is set for all
as template.yaml sets it for the worker function. Medians of several rounds, taken in turns.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _table import absent, parser, report, row

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ["USE_FAST_LOCALS"] = "1"
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "handlers"))

ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"
STOCK_APP = """
import os
from celery import Celery
app = Celery("stock", broker=os.environ["BENCH_REDIS"] + "/1")
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=100,
                worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
if os.environ.get("BENCH_RESULTS"):
    app.conf.update(result_backend=os.environ["BENCH_REDIS"] + "/2", task_ignore_result=False)

@app.task(name="noop")
def noop():
    pass
"""


@contextmanager
def redis_server() -> Iterator[str | None]:
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        [binary, "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


class Context:
    aws_request_id = "r"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def record(number: int) -> dict[str, Any]:
    task_id = f"00000000-0000-4000-8000-{number:012d}"
    body = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    message = {
        "body": json.dumps(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": "noop", "id": task_id, "shadow": None, "eta": None,
            "expires": None, "group": None, "group_index": None, "retries": 0,
            "timelimit": [None, None], "root_id": task_id, "parent_id": None, "argsrepr": "()",
            "kwargsrepr": "{}", "origin": "gen1@host", "ignore_result": False,
            "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
        },
        "properties": {
            "correlation_id": task_id, "reply_to": "", "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "tasks"}, "priority": 0,
            "body_encoding": "utf-8", "delivery_tag": task_id,
        },
    }  # fmt: skip
    return {
        "messageId": task_id,
        "receiptHandle": "r" * 300 + task_id,
        "body": json.dumps(message),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "awsRegion": "us-east-1",
    }


def deep(frames: int) -> None:
    """Fail, as far down as an application's own functions may go."""
    if frames:
        deep(frames - 1)
    raise ValueError("it does not work")


_ids = iter(range(0, 1_000_000_000_000, 10_000_000))


def ours(
    redis: str | None, *, results: bool, fails: bool = False, kind: str = "def", wait_s: float = 0
) -> Any:
    """A handler and a round: seconds a task, over ``count`` tasks, in batches of ten.

    ``kind``: ``def`` tasks one after the other, on ``threads``, or ``async def`` tasks; each waits.
    """
    import asyncio

    from celery import Celery

    from twolane import WorkerHandler

    app = Celery(f"ours-{bool(redis)}-{results}-{fails}-{kind}-{wait_s}", set_as_current=False)
    app.conf.update(
        broker_url="sqs://",
        task_default_queue="tasks",
        task_ignore_result=not results,
        result_backend=f"{redis}/0" if redis else None,
    )
    if kind == "threads":
        app.conf.update(worker_pool="threads", worker_concurrency=10)
    if kind == "async def":

        @app.task(shared=False, name="noop")
        async def noop() -> None:
            if wait_s:
                await asyncio.sleep(wait_s)

    else:

        @app.task(shared=False, name="noop")
        def noop() -> None:
            if wait_s:
                time.sleep(wait_s)
            if fails:
                deep(4)

    handler = WorkerHandler(app, environ={})
    first = next(_ids)
    numbers = iter(range(first, first + 10_000_000))  # ids of its own

    def round_(count: int) -> float:
        context = Context()
        spent = 0.0
        for _ in range(count // 10):
            # One event at a time, as an execution environment has it: hundreds of them, kept for
            # later, would be the garbage collector's work and not the handler's.
            event = {"Records": [record(next(numbers)) for _ in range(10)]}
            began = time.perf_counter()
            answer = handler(event, context)
            spent += time.perf_counter() - began
            assert answer == {"batchItemFailures": []}
        return spent / count

    return round_


def tracer() -> Any:
    """Celery's tracer alone, with its own context and not the cheaper one of a worker of ours."""
    from celery import Celery
    from celery.app import trace as tracing
    from celery.app.task import Context as StockContext
    from celery.app.trace import build_tracer

    app = Celery("tracer", set_as_current=False)

    @app.task(shared=False, name="noop", ignore_result=True)
    def noop() -> None:
        pass

    app.finalize()
    task = app.tasks["noop"]
    trace = build_tracer("noop", task, app=app)

    def round_(count: int) -> float:
        seam: Any = tracing
        ours, seam.Context = seam.Context, StockContext
        began = time.perf_counter()
        for _ in range(count):
            trace("id", (), {}, {"id": "id", "delivery_info": {}})
        spent = time.perf_counter() - began
        seam.Context = ours
        return spent / count

    return round_


def stock(redis: str, pool: list[str], count: int, *, results: bool) -> float:
    """Seconds a task of a stock worker: it finds ``count`` tasks when it starts."""
    import redis as redis_client

    with (
        tempfile.TemporaryDirectory() as folder,
        redis_client.Redis.from_url(f"{redis}/1") as broker,
    ):
        Path(folder, "stock.py").write_text(STOCK_APP)
        environ = {
            **os.environ, "BENCH_REDIS": redis, "PYTHONPATH": folder, "PYTHONWARNINGS": "ignore",
            "BENCH_RESULTS": "1" if results else "",
        }  # fmt: skip
        broker.flushall()
        publish = f"import stock\nfor _ in range({count}): stock.noop.delay()"
        subprocess.run([sys.executable, "-c", publish], env=environ, cwd=folder, check=True)
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "stock", "worker", "-l", "WARNING", *pool,
             "--without-gossip", "--without-mingle", "--without-heartbeat"],
            env=environ, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return _time_of_the_middle(broker, count)
        finally:
            worker.terminate()
            worker.wait(20)


def _time_of_the_middle(broker: Any, count: int) -> float:
    """From a tenth of the tasks taken to the last one taken: start-up is not the worker's speed."""

    def left() -> int:
        return int(broker.llen("celery")) + int(broker.hlen("unacked"))

    deadline = time.perf_counter() + 120
    began = began_left = None
    while time.perf_counter() < deadline:
        now_left = left()
        if began is None and now_left <= count * 0.9:
            began, began_left = time.perf_counter(), now_left
        if now_left == 0 and began is not None and began_left:
            return (time.perf_counter() - began) / began_left
        time.sleep(0.002)
    raise RuntimeError("the stock worker did not finish within 120 s")


def _rounds(redis: str | None) -> dict[str, tuple[Any, int]]:
    rounds: dict[str, tuple[Any, int]] = {
        "tracer": (tracer(), 5_000),
        "ours": (ours(None, results=False), 4_000),
        "ours, async def": (ours(None, results=False, kind="async def"), 4_000),
    }
    if redis is None:
        return rounds
    rounds["ours, Redis results and leases"] = (ours(redis, results=True), 1_000)
    rounds["ours, failing"] = (ours(redis, results=True, fails=True), 300)
    for kind in ("async def", "threads"):
        rounds[f"ours, {kind}, Redis"] = (ours(redis, results=True, kind=kind), 1_000)
        waiting = ours(redis, results=True, kind=kind, wait_s=1)
        rounds[f"ours, {kind}, waiting"] = (waiting, 10)
    return rounds


def _peers(redis: str) -> dict[str, float]:
    pools = (
        ("solo", ["--pool", "solo"], False),
        ("prefork x4", ["--pool", "prefork", "-c", "4"], False),
        ("prefork x4, Redis results", ["--pool", "prefork", "-c", "4"], True),
        ("threads x10, Redis results", ["--pool", "threads", "-c", "10"], True),
    )
    return {
        name: statistics.median(stock(redis, pool, 2_000, results=results) for _ in range(3))
        for name, pool, results in pools
    }


def _several(median: dict[str, float]) -> list[Any]:
    """Rows of tasks side by side, with Redis results and leases."""
    one = median["ours, Redis results and leases"]
    return [
        row("ten async def tasks that await 1 s", median["ours, async def, waiting"] * 10, "s",
            "<= 1.15"),
        row("ten def tasks that block 1 s, threads", median["ours, threads, waiting"] * 10, "s",
            "<= 1.25"),
        row("a no-op async def task to a def one", median["ours, async def, Redis"] / one, "x",
            "<= 1.3"),
        row("the same, without results", median["ours, async def"] / median["ours"], "x"),
        row("a no-op task on a thread to one in solo", median["ours, threads, Redis"] / one, "x"),
    ]  # fmt: skip


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5)
    options = flags.parse_args()
    logging.disable(logging.ERROR)  # the tasks that fail would say so
    with redis_server() as redis:
        rounds = _rounds(redis)
        samples: dict[str, list[float]] = {name: [] for name in rounds}
        for round_, count in rounds.values():
            round_(min(count, 500))
        for _ in range(options.rounds):
            for name, (round_, count) in rounds.items():
                samples[name].append(round_(count))
        peers = _peers(redis) if redis is not None else {}
    median = {name: statistics.median(values) for name, values in samples.items()}
    rows = [
        row("no-op tasks, in-process, without results", 1 / median["ours"], "tasks/s", ">= 8000"),
        row("a task, without results", median["ours"] * 1e6, "µs"),
        row("Celery's tracer alone", median["tracer"] * 1e6, "µs"),
        row("a task to a bare tracer call", median["ours"] / median["tracer"], "x"),
    ]
    durable = median.get("ours, Redis results and leases")
    if durable is None:
        rows.append(absent("with Redis results and leases", "tasks/s", "redis-server is missing"))
    else:
        rows += [
            row("with Redis results and leases", 1 / durable, "tasks/s", ">= 1500"),
            row("a task, with Redis results and leases", durable * 1e6, "µs"),
            row(
                "a task that fails, with Redis results and leases",
                median["ours, failing"] * 1e6,
                "µs",
            ),
            *_several(median),
        ]
    for name, seconds in peers.items():
        mine = durable if durable and "results" in name else median["ours"]
        mine = median["ours, threads, Redis"] if "threads" in name else mine
        rows.append(row(f"stock worker, {name}", 1 / seconds, "tasks/s"))
        rows.append(row(f"ours to stock {name}", seconds / mine, "x"))
    if not peers:
        rows.append(absent("stock worker", "tasks/s", "redis-server is missing"))
    report("worker: no-op tasks, batches of ten", rows, as_json=options.json)


if __name__ == "__main__":
    main()
