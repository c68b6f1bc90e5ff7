"""An application whose parts fail, and that logs in its own way, under `twolane up`."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .conftest import BIN, clean_environ, until, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Service

pytestmark = pytest.mark.slow

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    {Runtime: python3.11, CodeUri: src, Timeout: 20, MemorySize: 512,
     Environment: {Variables: {QUEUE_URL: !Ref Jobs}}}
Resources:
  Jobs: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 120}}
  Api:
    Type: AWS::Serverless::Function
    Properties: {Handler: api.handler, Events: {Any: {Type: HttpApi}}}
  Plain:
    Type: AWS::Serverless::Function
    Properties:
      Handler: plain.handler
      Events: {Any: {Type: HttpApi, Properties: {Path: /plain, Method: get}}}
  Guard:
    Type: AWS::Serverless::Function
    Properties: {Handler: plain.handler}
  Guarded:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Own
        Authorizers:
          Own: {FunctionArn: !GetAtt Guard.Arn, AuthorizerPayloadFormatVersion: "2.0",
                Identity: {Headers: [x-key]}, EnableSimpleResponses: true}
  Behind:
    Type: AWS::Serverless::Function
    Properties:
      Handler: plain.handler
      Events: {Any: {Type: HttpApi, Properties: {ApiId: !Ref Guarded, Path: /, Method: get}}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: worker.handler
      Events:
        Jobs: {Type: SQS, Properties: {Queue: !GetAtt Jobs.Arn,
               FunctionResponseTypes: [ReportBatchItemFailures]}}
"""
PLAIN = """
def inner(): raise ValueError("the plain one broke")
def handler(event, context): inner()
"""
TASKS = """
import logging, logging.config, os
from celery import Celery
logging.config.dictConfig({
    "version": 1,
    "formatters": {"own": {"format": "OWN %(levelname)s %(name)s %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"handlers": ["own"], "level": "INFO"},
})
celery = Celery("shop", broker="sqs://")
celery.conf.update(task_default_queue="jobs", broker_transport_options={
    "predefined_queues": {"jobs": {"url": os.environ["QUEUE_URL"]}}})
log = logging.getLogger("shop")
@celery.task(name="shop.broken")
def broken():
    raise_it()
def raise_it(): raise ValueError("the task broke")
@celery.task(name="shop.fine")
def fine():
    log.info("in the task")
"""
API = """
from contextlib import asynccontextmanager
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from tasks import broken, fine, log
from twolane import ApiHandler

app = FastAPI()
class Odd(Exception): pass
def fails(text): raise RuntimeError(text)
def leaves():
    yield
    fails("the dependency broke")
def parts():
    yield "a"
    fails("the stream broke")

@app.get("/ok")
def ok(): log.info("in the endpoint")
@app.get("/endpoint")
async def endpoint(): fails("the endpoint broke")
@app.get("/sync")
def sync(): fails("the sync endpoint broke")
@app.get("/background")
def background(tasks: BackgroundTasks): tasks.add_task(fails, "the background broke")
@app.get("/dependency")
def dependency(it=Depends(leaves)): ...
@app.get("/stream")
def stream(): return StreamingResponse(parts())
@app.get("/handler")
def handled(): raise Odd()
@app.exception_handler(Odd)
async def odd(request, error): fails("the exception handler broke")
@app.get("/task/broken")
def task(): return broken.delay().id
@app.get("/task/fine")
def well(): return fine.delay().id

async def outer(scope, receive, send):
    if scope.get("path") == "/middleware":
        fails("the middleware broke")
    await app(scope, receive, send)

handler = ApiHandler(outer)
"""
FILES = {
    "template.yaml": TEMPLATE, "src/plain.py": PLAIN, "src/tasks.py": TASKS, "src/api.py": API,
    "src/worker.py": "from tasks import celery\nfrom twolane import WorkerHandler\n"
    "handler = WorkerHandler(celery)\n",
}  # fmt: skip
#: The status of each, and the end of its last line.
REQUESTS = {
    "/endpoint": (500, "the endpoint broke"),
    "/sync": (500, "the sync endpoint broke"),
    "/middleware": (500, "the middleware broke"),
    "/handler": (500, "the exception handler broke"),
    "/stream": (500, "the stream broke"),
    "/dependency": (200, "the dependency broke"),
}


@contextmanager
def project(folder: Path, *flags: str) -> Iterator[tuple[Service, dict[str, Any]]]:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with up(folder, *flags, cwd=folder) as (service, said):
        yield service, said


def asked(said: dict[str, Any], route: str) -> Any:
    answer = httpx.get(f"{said['console']}/api/{route}", trust_env=False)
    return answer.json()


def failed(said: dict[str, Any], kind: str, number: int) -> list[dict[str, Any]]:
    """The events of a kind, once there are so many."""

    def look() -> list[dict[str, Any]] | None:
        events: list[dict[str, Any]] = asked(said, f"journal?kind={kind}")["events"]
        return events if len(events) >= number else None

    return until(look, f"{number} {kind}")


def traced(folder: Path, identity: str, *flags: str) -> str:
    command = [str(BIN / "twolane"), "trace", identity, "--template", "template.yaml", *flags]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env=clean_environ(no_proxy="*", COLUMNS="100"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("flags", [(), ("--in-process",)], ids=str)
def test_what_fails_is_shown_where_it_was_raised_and_counted_once(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with project(tmp_path, *flags) as (service, said):
        api = said["apis"]["serverlesshttpapi"]
        got = {
            path: httpx.get(f"{api}{path}", trust_env=False, timeout=30).status_code
            for path in [*REQUESTS, "/ok", "/background", "/task/broken", "/task/fine", "/plain"]
        }
        assert {path: got[path] for path in REQUESTS} == {
            path: status for path, (status, _) in REQUESTS.items()
        }
        assert [got[path] for path in ("/ok", "/background", "/plain")] == [200, 200, 500]

        events = failed(said, "request.failed", len(REQUESTS))
        for (path, (status, text)), event in zip(REQUESTS.items(), events, strict=True):
            data = event["data"]
            assert (data["method"], data["path"], data["status"]) == ("GET", path, status)
            assert data["stackTrace"].rstrip().endswith(f"RuntimeError: {text}")
            assert event["requestId"]
            how = "failed" if status == 500 else "answered, then failed"
            line = f"! Api             {status} GET {path} {how}: RuntimeError('{text}')\nTraceback"
            assert line in service.log_text()

        (background,) = failed(said, "inline.failed", 1)
        assert background["data"]["taskName"] == "api.fails"
        assert "the background broke" in background["data"]["stackTrace"]

        (broken,) = failed(said, "task.failed", 1)
        assert "in raise_it" in broken["data"]["stackTrace"]
        failed(said, "task.succeeded", 1)
        tasks = {task["name"]: task["counts"] for task in asked(said, "tasks")["tasks"]}
        assert tasks["shop.broken"]["failed"] == tasks["shop.broken"]["started"] == 1
        assert tasks["shop.fine"]["succeeded"] == tasks["shop.fine"]["published"] == 1

        log = service.log_text()
        assert log.count("OWN INFO shop in the endpoint") == 1
        assert log.count("OWN INFO shop in the task") == 1
        assert "work after the response" not in log.lower()
        plain = log[log.index("[ERROR] ValueError: the plain one broke") :]
        assert "in inner" in plain[:600]

        # The frames of frameworks: folded in the terminal, all in JSON.
        raised = events[0]["data"]["stackTrace"]
        assert "/starlette/" in raised
        terminal = log[log.index("500 GET /endpoint failed") : log.index("GET /sync")]
        assert "/starlette/" not in terminal
        assert "frames of" in terminal

        identity = events[0]["requestId"]
        short = traced(tmp_path, identity)
        assert "RuntimeError: the endpoint broke" in short
        assert "/starlette/" not in short
        assert "/starlette/" in traced(tmp_path, identity, "--verbose")
        spans = asked(said, f"trace/{identity}")["spans"]
        assert (spans[0]["state"], spans[0]["detail"]["status"]) == ("failed", 500)
        assert "/starlette/" in spans[0]["detail"]["error"]["traceback"]
        assert "/starlette/" not in spans[0]["detail"]["error"]["folded"]
        task = traced(tmp_path, broken["taskId"])
        assert "in raise_it" in task
        assert "/celery/" not in task


def test_an_authorizer_that_fails_shows_where(tmp_path: Path) -> None:
    with project(tmp_path) as (service, said):
        address = next(url for name, url in said["apis"].items() if name.lower() == "guarded")
        answer = httpx.get(f"{address}/", headers={"x-key": "1"}, trust_env=False, timeout=30)
        assert answer.status_code == 500
        service.logged("[ERROR] ValueError: the plain one broke")
        assert "in inner" in service.log_text()
