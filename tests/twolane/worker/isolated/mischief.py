"""A worker whose tasks do to their process what no task should, each by its name."""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from twolane import WorkerHandler

celery = Celery("mischief", set_as_current=False)
celery.conf.update(
    broker_url="sqs://", task_default_queue="tasks", result_backend=os.environ["RESULT_BACKEND"]
)


def note(what: str) -> None:
    """An effect, on a connection of its own: no test's subject."""
    with redis.Redis.from_url(os.environ["RESULT_BACKEND"]) as client:
        client.rpush("effects", what)


@celery.task(name="plain", shared=False)
def plain() -> int:
    return os.getpid()


@celery.task(name="limited", shared=False)
def limited() -> None:
    threading.Event().wait(15)


@celery.task(name="mischief", shared=False, bind=True)
def mischief(self: Any, what: str) -> Any:
    note(f"{self.request.id}:{what}")
    return globals()[what]()


@celery.task(name="retried", shared=False, bind=True, max_retries=2, acks_late=True)
def retried(self: Any) -> None:
    with redis.Redis.from_url(os.environ["RESULT_BACKEND"]) as client:
        first = client.incr(f"ran:{self.request.id}") == 1
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    raise self.retry(exc=ValueError("still no"), countdown=0)


def child_returns() -> str:
    if os.fork():
        os.wait()
        return "parent"
    return "child"


def child_raises() -> str:
    if os.fork():
        _, status = os.wait()
        return f"parent of {os.waitstatus_to_exitcode(status)}"
    raise ValueError("in the child")


def child_exits() -> str:
    if os.fork():
        _, status = os.wait()
        return f"parent of {os.waitstatus_to_exitcode(status)}"
    sys.exit(3)


def child_tells_its_state() -> str:
    if os.fork():
        os.wait()
        return "parent"
    mischief.update_state(state="PROGRESS", meta={})
    return "child"


def child_is_left_alone() -> str:
    """Nobody waits for it."""
    return "parent" if os.fork() else "child"


def processes() -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2])


def directory_gone() -> str:
    with tempfile.TemporaryDirectory() as path:
        os.chdir(path)
    return "in no directory"


def umask() -> int:
    return os.umask(0o777)


def environment_cleared() -> None:
    for name in [name for name in os.environ if name != "RESULT_BACKEND"]:
        del os.environ[name]


def alarm_taken() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(0.1)


def alarm_taken_and_given_back() -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(5)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def alarm_far_away() -> None:
    signal.alarm(3600)


def alarm_ignored() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def alarm_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})


def termination_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def exits() -> None:
    sys.exit(1)


def interrupted() -> None:
    raise KeyboardInterrupt


def threads_left() -> None:
    for _ in range(3):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def default_timeout() -> None:
    socket.setdefaulttimeout(0.001)


def logging_off() -> None:
    logging.disable(logging.CRITICAL)


def output_closed() -> None:
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    sys.stdout.close()
    sys.stderr = None


def output_replaced() -> None:
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115


def path_cleared() -> None:
    sys.path.clear()


def recursion_limit() -> None:
    for limit in range(30, 300):
        try:
            sys.setrecursionlimit(limit)
        except RecursionError:
            continue
        return


def warnings_are_errors() -> None:
    import warnings

    warnings.simplefilter("error")


def own_descriptors() -> None:
    for number in [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]:
        os.close(number)


def ends_at_once() -> None:
    os._exit(7)


def closes_everything() -> None:
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def closes_all_and_more() -> None:
    os.closerange(0, 1024)


def closes_and_opens() -> None:
    """The numbers that it has closed are others' by the time that it ends."""
    os.closerange(3, 1024)
    for _ in range(200):
        os.open(os.devnull, os.O_RDONLY)


handler = WorkerHandler(celery)
