"""The campaign's tasks: plain Celery, as a stock publisher imports it too.

What a task does is one line of a file, in one write, so that a kill leaves a whole line or none:
``begun`` when its body starts, ``effect`` for the work itself, ``settled`` once Celery is done
with it, its result stored.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery
from celery.signals import task_postrun


def _configuration() -> dict[str, Any]:
    return {
        "broker_url": "sqs://",
        "broker_transport_options": {
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
            "sqs_base64_encoding": False,
        },
        "task_default_queue": "tasks",
        "result_backend": os.environ["RESULT_BACKEND"],
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_track_started": True,
        "task_acks_late": True,
    }


app = Celery("campaign")
app.conf.update(_configuration())


def record(what: str, task: str, task_id: str | None, attempt: int = 0, **about: Any) -> None:
    line = {"what": what, "task": task, "id": task_id, "attempt": attempt, **about}
    data = json.dumps({**line, "t": time.time(), "pid": os.getpid()}).encode() + b"\n"
    descriptor = os.open(os.environ["EFFECTS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def work(task: Any, unit: int, index: int, pause: float = 0.0, **about: Any) -> None:
    request = task.request
    known = {"unit": unit, "index": index}
    record("begun", task.name, request.id, request.retries, **known)
    time.sleep(pause / 2)
    record("effect", task.name, request.id, request.retries, **known, **about)
    time.sleep(pause / 2)


@task_postrun.connect
def settled(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    record("settled", task.name, task_id, task.request.retries, state=state)


@app.task(bind=True, name="campaign.plain")
def plain(self: Any, unit: int, index: int = 0, pause: float = 0.0) -> int:
    work(self, unit, index, pause)
    return unit


@app.task(bind=True, name="campaign.flaky")
def flaky(self: Any, unit: int, fails: int) -> int:
    work(self, unit, 0)
    if self.request.retries < fails:
        raise self.retry(countdown=1, max_retries=fails)
    return unit


@app.task(bind=True, name="campaign.doomed")
def doomed(self: Any, unit: int) -> None:
    work(self, unit, 0)
    raise ValueError(f"unit {unit} is to fail")


@app.task(bind=True, name="campaign.step")
def step(self: Any, trail: list[int], unit: int, index: int) -> list[int]:
    work(self, unit, index, got=trail)
    return [*trail, index]


@app.task(bind=True, name="campaign.part")
def part(self: Any, unit: int, index: int, pause: float = 0.0) -> int:
    work(self, unit, index, pause)
    return index


@app.task(bind=True, name="campaign.passed")
def passed(self: Any, value: int, unit: int, index: int) -> int:
    work(self, unit, index, got=value)
    return value


@app.task(bind=True, name="campaign.total")
def total(self: Any, parts: list[int], unit: int, index: int = 0) -> int:
    work(self, unit, index, got=parts)
    return sum(parts)


@app.task(bind=True, name="campaign.linked")
def linked(self: Any, value: int, unit: int) -> int:
    work(self, unit, 0, got=value)
    return value


@app.task(bind=True, name="campaign.swap")
def swap(self: Any, unit: int, steps: int) -> None:
    work(self, unit, 0)
    if steps:
        chain = step.s([], unit, 0)
        for index in range(1, steps):
            chain |= step.s(unit, index)
        raise self.replace(chain)
    raise self.replace(plain.s(unit))


@app.task(name="campaign.mourn")
def mourn(failed: str) -> None:
    """An errback of the old kind, which is sent as a message of its own."""
    request = mourn.request
    record("begun", "campaign.mourn", request.id, request.retries, failed=failed)
    record("effect", "campaign.mourn", request.id, request.retries, failed=failed)


@app.task(name="campaign.lament")
def lament(request: Any, error: Any, traceback: Any) -> None:
    """An errback of the new kind, which is called where the task has failed."""
    record("begun", "campaign.lament", request.id, request.retries, failed=request.id)
    record("effect", "campaign.lament", request.id, request.retries, failed=request.id)
