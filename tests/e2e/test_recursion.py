"""Forty retries and a chain of forty through `twolane up`, with our template and without its
``RecursiveLoop: Allow``.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .conftest import BIN, ROOT, Service, clean_environ, until, up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TASKS = """
import os
from celery import Celery, chain

celery = Celery("loops", broker="sqs://", backend=os.environ["RESULT_BACKEND"])
celery.conf.update(
    task_serializer="json", accept_content=["json"], task_default_queue="tasks",
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
)


@celery.task(bind=True, max_retries=None, name="loops.retried")
def retried(self):
    if self.request.retries < 40:
        raise self.retry(countdown=0)
    return self.request.retries


@celery.task(name="loops.link")
def link(number):
    return number


def forty():
    return chain(*(link.si(number) for number in range(1, 41)))
"""
API = """
from fastapi import FastAPI
from app.tasks import forty, retried
from twolane import ApiHandler

api = FastAPI()


@api.post("/retries")
def retries():
    return {"id": retried.delay().id}


@api.post("/chain")
def chain():
    return {"id": forty().delay().id}


@api.get("/tasks/{task}")
def state(task):
    result = retried.AsyncResult(task)
    return {"state": result.state, "result": result.result if result.ready() else None}


handler = ApiHandler(api)
"""
HANDLER = "from app.tasks import celery\nfrom twolane import {0}\n\nhandler = {0}(celery)\n"


def project(folder: Path, *, allow: bool) -> Path:
    """Our template, with an application that loops."""
    text = (ROOT / "template.yaml").read_text()
    assert text.count("      RecursiveLoop: Allow\n") == 1
    if not allow:
        text = text.replace("      RecursiveLoop: Allow\n", "")
    (folder / "template.yaml").write_text(text)
    shutil.copytree(ROOT / "infra", folder / "infra")
    app = folder / "handlers" / "app"
    app.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "tasks.py").write_text(TASKS)
    (app / "api.py").write_text(API)
    (app / "worker.py").write_text(HANDLER.format("WorkerHandler"))
    (app / "beat.py").write_text(HANDLER.format("BeatHandler"))
    return folder


def post(service: Service, path: str) -> str:
    answer = httpx.post(f"{service.url}{path}", timeout=30, trust_env=False)
    return str(answer.json()["id"])


def ended(service: Service, task: str, seconds: float = 60) -> Any:
    def look() -> Any:
        _, shown = service.get(f"/tasks/{task}")
        return shown if shown["state"] in {"SUCCESS", "FAILURE"} else None

    return until(look, f"end of {task}: {service.log_text()[-2000:]}", seconds=seconds)


def test_forty_of_each_end_with_our_template(tmp_path: Path) -> None:
    folder = project(tmp_path, allow=True)
    with up(folder, "--no-console", cwd=folder) as (service, _):
        retried, chained = post(service, "/retries"), post(service, "/chain")
        assert ended(service, retried) == {"state": "SUCCESS", "result": 40}
        assert ended(service, chained) == {"state": "SUCCESS", "result": 40}
        assert "RecursiveLoop" not in service.log_text()


def test_without_the_allowance_they_are_stopped_and_said(tmp_path: Path) -> None:
    folder = project(tmp_path, allow=False)
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_RUNTIME_DIR": ""}
    with up(folder, cwd=folder, **own) as (service, said):
        tasks, dead = sorted(said["queues"].values(), key=lambda url: "DeadLetter" in url)
        # Five receives of 360 s each would take half an hour.
        sqs = service.client("sqs")
        sqs.set_queue_attributes(QueueUrl=tasks, Attributes={"VisibilityTimeout": "1"})
        post(service, "/retries")
        post(service, "/chain")
        service.logged("recursive-loop detection stops it there", seconds=60)

        def console(route: str) -> Any:
            return httpx.get(f"{said['console']}/api/{route}", trust_env=False).json()

        def buried() -> Any:
            found = console(f"queues/{dead.rpartition('/')[2]}/messages")["messages"]
            return found if len(found) == 2 else None

        letters = until(buried, "two dead letters", seconds=90)
        assert {letter["task"]["name"] for letter in letters} == {"loops.retried", "loops.link"}
        text = service.log_text()
        for words in (
            "RecursiveInvocationsDropped",
            "give the function RecursiveLoop: Allow",
            f"until they go to {dead.rpartition('/')[2]} after 5 receives",
        ):
            assert words in text
        for letter in letters:
            (reason,) = console(f"why/{letter['id']}")["reasons"]
            assert reason["code"] == "recursive-loop"
            assert "RecursiveLoop: Allow" in reason["text"]
        # A redrive begins a new chain, and is not stopped at once.
        done = text.count("succeeded loops.link")
        redriven = subprocess.run(
            [str(BIN / "twolane"), "dlq", "redrive", "--all", "--yes"], cwd=folder,
            capture_output=True, text=True, timeout=60, check=False,
            env=clean_environ(no_proxy="*", **own),
        )  # fmt: skip
        assert redriven.returncode == 0, redriven.stdout + redriven.stderr

        def gone_on() -> Any:
            return service.log_text().count("succeeded loops.link") > done + 5 or None

        until(gone_on, f"more than {done + 5} tasks: {service.log_text()[-3000:]}", seconds=60)
