"""``async def`` tasks, and threads by Celery's own setting, through a real `twolane up`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .conftest import ROOT, until, up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TASKS = """
import asyncio
import os
import time
from celery import Celery, chord, current_task, group

celery = Celery("many", broker="sqs://", backend=os.environ["RESULT_BACKEND"])
celery.conf.update(
    task_serializer="json", accept_content=["json"], task_default_queue="tasks",
    worker_pool="threads", worker_concurrency=10,
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
)
kept = {}


@celery.task(bind=True, name="many.awaits")
async def awaits(self):
    began = time.time()
    lock = kept.setdefault("lock", asyncio.Lock())  # it belongs to its loop
    async with lock:
        pass
    await asyncio.sleep(1)
    assert current_task.request.id == self.request.id
    return [began, time.time()]


@celery.task(name="many.blocks")
def blocks():
    began = time.time()
    time.sleep(1)
    return [began, time.time()]


@celery.task(name="many.overlap")
async def overlap(spans):
    await asyncio.sleep(0)
    return max(sum(one <= began < end for one, end in spans) for began, _ in spans)


def ten(kind):
    task = awaits if kind == "awaits" else blocks
    return chord([task.s() for _ in range(10)])(overlap.s())
"""
API = """
from fastapi import FastAPI
from app.tasks import celery, ten
from twolane import ApiHandler

api = FastAPI()


@api.post("/ten/{kind}")
def run(kind: str):
    return {"id": ten(kind).id}


@api.get("/tasks/{task}")
def state(task: str):
    result = celery.AsyncResult(task)
    return {"state": result.state, "result": result.result if result.successful() else None}


handler = ApiHandler(api)
"""
HANDLER = "from app.tasks import celery\nfrom twolane import {0}\n\nhandler = {0}(celery)\n"


def project(folder: Path) -> Path:
    shutil.copy(ROOT / "template.yaml", folder)
    shutil.copytree(ROOT / "infra", folder / "infra")
    app = folder / "handlers" / "app"
    app.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "tasks.py").write_text(TASKS)
    (app / "api.py").write_text(API)
    (app / "worker.py").write_text(HANDLER.format("WorkerHandler"))
    (app / "beat.py").write_text(HANDLER.format("BeatHandler"))
    return folder


@pytest.mark.parametrize("flags", [(), ("--in-process",)], ids=["isolated", "in-process"])
def test_a_chord_of_ten_that_wait(tmp_path: Path, flags: tuple[str, ...]) -> None:
    folder = project(tmp_path)
    with up(folder, "--no-console", *flags, cwd=folder) as (service, _):
        for kind in ("awaits", "blocks"):
            answer = httpx.post(f"{service.url}/ten/{kind}", timeout=30, trust_env=False)
            body = answer.json()["id"]

            def ended(task: str = body) -> Any:
                _, shown = service.get(f"/tasks/{task}")
                return shown if shown["state"] in {"SUCCESS", "FAILURE"} else None

            shown = until(ended, f"end of {kind}: {service.log_text()[-3000:]}", seconds=60)
            assert shown["state"] == "SUCCESS", service.log_text()[-3000:]
            assert shown["result"] >= 4  # of ten, in whatever batches they came
