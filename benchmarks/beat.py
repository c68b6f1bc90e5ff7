"""What a tick costs, and what a cold beat function imports.

A tick is measured whole: reading the ledger from a real Redis, finding what is due, claiming it,
publishing it (Celery's own ``apply_async`` into kombu's in-memory transport, so that no network is
in the figure) and writing that it is sent.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from _table import Row, absent, parser, report, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

ENTRIES, DUE, TICKS = 1_000, 10, 150
START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
DAY = 86_400.0


def make_app(name: str) -> Celery:
    """990 entries of all kinds that are not due, and 10 that are due at every tick."""
    from celery import Celery
    from celery.schedules import crontab, schedule

    app = Celery(name, set_as_current=False)
    entries: dict[str, dict[str, Any]] = {}
    for number in range(ENTRIES):
        if number < DUE:
            when: Any = 60.0
        elif number % 3 == 0:
            when = timedelta(hours=20 + number % 40)
        elif number % 3 == 1:
            when = crontab(minute=number % 60, hour=12 + number % 12)
        else:
            when = schedule(timedelta(days=1), relative=True)
        entries[f"entry-{number:04}"] = {"task": "bench.task", "schedule": when}
    app.conf.update(
        broker_url="memory://", result_backend="redis://", beat_schedule=entries,
        timezone="Europe/Berlin", task_default_queue=name,
    )  # fmt: skip

    @app.task(name="bench.task", shared=False)
    def task() -> None: ...

    return app


@contextlib.contextmanager
def redis_store() -> Iterator[Any]:
    """A state store on a redis-server of our own, on a free port."""
    import redis

    from twolane.state.redis import RedisStore

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
             folder], stdout=subprocess.DEVNULL,
        )  # fmt: skip
        client = redis.Redis(port=port)
        try:
            _answers(client)
            yield RedisStore(lambda: client)
        finally:
            client.close()
            server.terminate()
            server.wait()


def _answers(client: Any) -> None:
    import redis

    until = time.monotonic() + 10
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


def ticks(store: Any, name: str) -> tuple[list[float], list[float], float]:
    """Seconds of each tick with ten due, of each with none, and of the first, which is cold."""
    from twolane.beat import BeatHandler

    now = START
    handler = BeatHandler(make_app(name), store=store, clock=lambda: now)
    began = time.perf_counter()
    handler({"time": _iso(now)}, None)
    cold = time.perf_counter() - began
    due, idle = [], []
    for _ in range(TICKS):
        now += 60.0
        began = time.perf_counter()
        published = handler({"time": _iso(now)}, None)["published"]
        due.append(time.perf_counter() - began)
        if len(published) != DUE:
            raise RuntimeError(f"{len(published)} tasks published, not {DUE}")
        began = time.perf_counter()
        handler({"time": _iso(now)}, None)  # delivered twice
        idle.append(time.perf_counter() - began)
    return due, idle, cold


def _iso(instant: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(instant, UTC).isoformat()


def celery_scan() -> float:
    """Seconds for asking each of the entries whether it is due, as a naive tick would."""
    from celery.beat import ScheduleEntry

    app = make_app("scan")
    entries = [
        ScheduleEntry(name=name, app=app, **raw) for name, raw in app.conf.beat_schedule.items()
    ]
    found = []
    for _ in range(5):
        began = time.perf_counter()
        for entry in entries:
            entry.is_due()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def imported(statement: str, *modules: str) -> list[str]:
    """Which of ``modules`` a fresh interpreter has imported after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*[m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def import_ratio() -> float:
    """The median of nine pairs of fresh interpreters, run side by side."""
    celery = "from celery import Celery; from celery.schedules import crontab; Celery().conf"

    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    handler = f"{celery}; from twolane import BeatHandler; BeatHandler(Celery())"
    return statistics.median(run(handler) / run(celery) for _ in range(9))


def measure() -> Iterator[Row]:
    from twolane.state.memory import MemoryStore

    logging.disable(logging.INFO)
    due, idle, cold = ticks(MemoryStore(lambda: START), "memory")
    yield row("tick, 1,000 entries, 10 due (store in memory)", _ms(due), "ms", "<= 5")
    if shutil.which("redis-server") is None:
        yield absent("tick, 1,000 entries, 10 due (Redis)", "ms", "no redis-server")
    else:
        with redis_store() as store:
            due, idle, cold = ticks(store, "redis")
        yield row("tick, 1,000 entries, 10 due (Redis)", _ms(due), "ms", "<= 5")
    yield row("tick, 1,000 entries, none due", _ms(idle), "ms", "<= 5")
    yield row("first tick of an empty store, 1,000 entries", cold * 1000, "ms")
    yield row("celery: is_due() of 1,000 entries", celery_scan() * 1000, "ms")
    names = (
        "fastapi",
        "boto3",
        "botocore",
        "redis",
        "celery.beat",
        "kombu.transport.SQS",
    )
    cold = "from celery import Celery; from twolane import BeatHandler; BeatHandler(Celery())"
    heavy = imported(cold, *names)
    yield row(f"heavy modules in a cold beat function ({', '.join(heavy) or 'none'})", len(heavy),
              "modules", "<= 0")  # fmt: skip
    yield row("cold import: BeatHandler beside Celery / Celery alone", import_ratio(), "ratio",
              "<= 1.2")  # fmt: skip


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


if __name__ == "__main__":
    flags = parser(__doc__).parse_args()
    report("beat", measure(), as_json=flags.json)
