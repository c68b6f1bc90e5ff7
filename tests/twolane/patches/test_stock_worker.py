"""``async def`` tasks under a stock ``celery worker``, whose application imports twolane."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chord

from twolane.patches import coroutines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = """
import asyncio, os
import twolane
from celery import Celery, current_task
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("stock", broker=os.environ["URL"], backend=os.environ["URL"])
app.conf.update(task_default_queue=os.environ["QUEUE"], broker_connection_retry_on_startup=True)


class NotNow(Exception):
    pass


@app.task(bind=True, name="look")
async def look(self):
    seen = []
    for _ in range(3):
        await asyncio.sleep(0.02)
        seen.append([self.request.id, current_task.request.id])
    return seen


@app.task(bind=True, name="flaky", autoretry_for=(NotNow,), max_retries=3, default_retry_delay=0)
async def flaky(self):
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise NotNow
    return self.request.retries


@app.task(name="soft", soft_time_limit=1)
async def soft():
    try:
        await asyncio.sleep(30)
    except SoftTimeLimitExceeded:
        return "tidied"


@app.task(name="one")
async def one(number):
    await asyncio.sleep(0)
    return number


@app.task(name="sum")
async def sum_(numbers):
    return sum(numbers)
"""


@pytest.fixture(params=["prefork", "threads", "solo"])
def worker(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Celery]:
    pool: str = request.param
    queue = f"stock-{pool}"
    (tmp_path / "stock.py").write_text(APP)
    environ = {
        **os.environ, "URL": redis_url, "QUEUE": queue, "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "USE_FAST_LOCALS": "1" if pool == "solo" else "",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "stock", "worker", "-l", "WARNING", "-P", pool,
         "-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"],
        env=environ, cwd=tmp_path,
    )  # fmt: skip
    app = Celery("caller", broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.task_default_queue = queue
    try:
        yield app
    finally:
        process.terminate()
        process.wait(30)
        app.close()


@pytest.mark.slow
def test_coroutine_tasks_run(worker: Celery, request: pytest.FixtureRequest) -> None:
    warnings.filterwarnings("ignore", "Call to deprecated setex", DeprecationWarning)
    call: Any = worker.signature
    looks = [call("look").delay() for _ in range(3)]
    flaky = call("flaky").delay()
    summed = chord([call("one", (n,)) for n in range(4)], app=worker)(call("sum"))
    for look in looks:
        assert look.get(timeout=60) == [[look.id, look.id]] * 3
    assert flaky.get(timeout=60) == 2
    assert summed.get(timeout=60) == 6
    if "prefork" in request.node.name:  # the other pools have no soft limits
        assert call("soft").delay().get(timeout=60) == "tidied"


EAGER = """
import asyncio
import twolane
from celery import Celery

app = Celery("eager", set_as_current=False)
app.conf.task_always_eager = True

@app.task(name="one", bind=True)
async def one(self, number):
    await asyncio.sleep(0)
    return [number, self.request.id]

async def endpoint():
    found = one.apply_async((1,), task_id="t")
    return found.get(), await one(2)

found, direct = asyncio.run(endpoint())
print(found, direct[0])
"""


def test_eager_tasks_run_in_a_loop_and_out_of_one() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import celery.app.task\n" + EAGER],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stdout == "[1, 't'] 2\n", ran.stderr


def test_a_tracer_that_is_not_celerys_own_stays_as_it_is() -> None:
    """A stock worker must start beside whatever has put itself around Celery's tracer."""

    def others(*_: object) -> None: ...

    assert coroutines.driven("t", others, lambda found: found) is others
