"""Once a task's body has ended, nothing that Celery does makes it run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_client

from .after_the_body import EXPECTED, add_tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from .conftest import Lane

HERE = Path(__file__).parent

DEADLINE_S = 60.0

#: A stock worker loses a process to each of these, which takes five seconds, or ends altogether.
LOSSES = ("exit", "interrupt")


@pytest.fixture(autouse=True)
def _celery_warns() -> None:
    warnings.filterwarnings("ignore", "Exception raised outside body", RuntimeWarning)


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
def test_whatever_fails_after_the_body_it_has_run_once(
    app: Celery, lane: Callable[..., Lane], late: bool
) -> None:
    ran: list[str] = []
    made = add_tasks(app, ran.append, acks_late=late)
    worker = lane()
    results = {name: apply() for name, apply in made.items()}
    worker.run(1200, step=120)
    assert Counter(ran) == dict.fromkeys(EXPECTED, 1)
    assert {name: result.state for name, result in results.items()} == EXPECTED
    assert worker.is_empty


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
def test_a_stock_worker_runs_each_once_too(redis_url: str, late: bool) -> None:
    """The table is not ours: this is what Celery's own worker makes of the same tasks."""
    table = {name: state for name, state in EXPECTED.items() if not name.endswith(LOSSES)}
    environ = {**os.environ, "AFTER_REDIS": redis_url, "AFTER_LATE": str(int(late))}
    with redis_client.Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushdb()
        command = [sys.executable, "-m", "celery", "-A", "after_the_body", "worker", "-c", "1"]
        worker = subprocess.Popen(
            [*command, "-P", "prefork", "--without-gossip", "--without-mingle", "-l", "critical"],
            cwd=HERE, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            ids = applied(environ, list(table))
            states = ended(client, ids)
        finally:
            worker.terminate()
            worker.wait(30)
        ran = {name: int(client.get(f"ran:{name}") or 0) for name in table}
    assert ran == dict.fromkeys(table, 1)
    assert states == table


def applied(environ: dict[str, str], names: list[str]) -> dict[str, str]:
    """Publish each task from a process of its own; their ids."""
    code = (
        "import json, sys, after_the_body as a; "
        "print(json.dumps({name: a.made[name]().id for name in json.loads(sys.argv[1])}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(names)],
        cwd=HERE, env=environ, capture_output=True, check=True,
    )  # fmt: skip
    ids: dict[str, str] = json.loads(done.stdout)
    return ids


def ended(client: Any, ids: dict[str, str]) -> dict[str, str]:
    """The state of each task, once nothing has changed for some seconds."""
    until, before, changed = time.monotonic() + DEADLINE_S, {}, time.monotonic()
    while time.monotonic() < until and time.monotonic() - changed < 5.0:
        time.sleep(0.2)
        texts = {name: client.get(f"celery-task-meta-{id_}") for name, id_ in ids.items()}
        states = {name: json.loads(text)["status"] for name, text in texts.items() if text}
        if states != before:
            before, changed = states, time.monotonic()
    return before


@pytest.mark.parametrize("hook", ["on_failure-exit", "errback-exit", "link-exit", "chain-exit"])
def test_an_exit_in_a_hook_is_no_worker_lost_in_the_body(
    app: Celery, lane: Callable[..., Lane], hook: str
) -> None:
    """A stock worker with ``task_reject_on_worker_lost`` runs such a task for ever."""
    ran: list[str] = []
    made = add_tasks(app, ran.append, acks_late=True, reject_on_worker_lost=True)
    worker = lane()
    result = made[hook]()
    worker.run(600, step=60)
    assert ran == [hook]
    assert result.state == "FAILURE"
    assert worker.is_empty


def test_a_task_that_rejects_its_failures_has_run_once_as_well(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    ran: list[str] = []
    made = add_tasks(app, ran.append, acks_late=True, acks_on_failure_or_timeout=False)
    worker = lane()
    result = made["arity"]()
    worker.run(600, step=60)
    assert ran == ["arity"]
    assert (result.state, len(worker.dead_letters())) == ("FAILURE", 1)


def test_a_hard_limit_whose_errback_fails_has_run_once(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    ran: list[str] = []

    @app.task(shared=False, name="three", bind=True)
    def three(self: Any, request: Any, exc: Any, traceback: Any) -> None:
        """Takes fewer arguments than it is given."""

    @app.task(shared=False, name="long", time_limit=0.2)
    def long() -> None:
        ran.append("long")
        while True:
            time.time()

    worker = lane()
    result = long.apply_async(link_error=three.s(1, 2, 3, 4))
    worker.run(600, step=60)
    assert ran == ["long"]
    assert (result.state, type(result.result).__name__) == ("FAILURE", "TimeLimitExceeded")
    assert worker.is_empty
