"""The application of the live tests: each task is told, by its argument, how it is to go wrong.

Whatever goes wrong does so once: the second delivery finds the mark that the first one left.
"""

import json
import os
import signal
import time

import redis
from celery import Celery
from celery.signals import task_postrun, task_prerun

from twolane import WorkerHandler

celery = Celery("live", set_as_current=False)
celery.conf.update(
    broker_url="sqs://",
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
    task_default_queue="tasks",
    result_backend=os.environ["RESULT_BACKEND"],
    task_serializer="json", result_serializer="json", accept_content=["json"],
    task_track_started=True,
)  # fmt: skip
# Around the proxy: what the tests see must not be cut off with what they test.
ledger = redis.Redis.from_url(os.environ["LEDGER_URL"], decode_responses=True)


def first(task_id: str, point: str) -> bool:
    return bool(ledger.set(f"mark:{task_id}:{point}", 1, nx=True))


def happen(task_id: str, wanted: str, point: str) -> None:
    if wanted != point or not first(task_id, point):
        return
    ledger.rpush("fired", json.dumps({"point": point, "pid": os.getpid(), "task": task_id}))
    if point.startswith("frozen"):
        os.kill(os.getpid(), signal.SIGSTOP)
    elif point == "timeout":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(60)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def effect(task_id: str) -> None:
    keys = ledger.keys(f"twolane:lease:{task_id}*")
    lease = json.loads(ledger.get(keys[0]) or "{}") if keys else {}
    entry = {"task": task_id, "lease": keys[0] if keys else None, "holder": lease.get("holder")}
    ledger.rpush("effects", json.dumps({**entry, "at": time.time()}))


@celery.task(bind=True, name="live.work", shared=False)
def work(self, wanted: str) -> str:
    happen(self.request.id, wanted, "during")
    happen(self.request.id, wanted, "frozen")
    happen(self.request.id, wanted, "timeout")
    # SIGKILL is what the kernel's killer sends; a whole machine's memory is not the tests' to fill.
    happen(self.request.id, wanted, "out-of-memory")
    effect(self.request.id)
    happen(self.request.id, wanted, "after-effect")
    happen(self.request.id, wanted, "frozen-after-effect")
    return wanted


@task_prerun.connect
def before(task_id: str, args: tuple[str, ...], **_: object) -> None:
    happen(task_id, args[0] if args else "", "before")


@task_postrun.connect
def after(task_id: str, args: tuple[str, ...], **_: object) -> None:
    happen(task_id, args[0] if args else "", "after-result")


handler = WorkerHandler(celery)
