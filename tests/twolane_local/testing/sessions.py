"""Projects of other shapes, and sessions of pytest in them, as their users start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {Type: String, Default: ""}
Globals:
  Function:
    CodeUri: CODE_URI
    Runtime: python3.13
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        RESULT_BACKEND: !Ref RedisUrl
        GREETING: hello
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: PACKAGE.functions.api
      Events: {All: {Type: HttpApi}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: PACKAGE.functions.worker
      Events:
        Queue:
          Type: SQS
          Properties: {Queue: !GetAtt Tasks.Arn, FunctionResponseTypes: [ReportBatchItemFailures]}
  Tasks:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}}
  Dead: {Type: AWS::SQS::Queue}
"""
#: Runs with and without the template's variables, as an application does that moved here.
TASKS = """
import os
from celery import Celery

celery = Celery("shop", set_as_current=False)
celery.conf.update(
    task_default_queue="tasks", result_backend=os.environ.get("RESULT_BACKEND", "cache+memory://"),
    accept_content=["json"], broker_url="memory://",
)
if queue := os.environ.get("TASK_QUEUE_URL"):
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": queue}},
            "sqs_base64_encoding": False,
        },
    )
GREETING = os.environ.get("GREETING", "nothing")

@celery.task(name="shop.greet")
def greet(name):
    return f"{os.environ.get('GREETING', 'nothing')} {name}"
"""
API = """
import os
from fastapi import Depends, FastAPI
from PACKAGE.tasks import GREETING, greet

app = FastAPI()

def suffix():
    return "!"

@app.post("/greetings/{name}")
def publish(name: str):
    return {"id": greet.delay(name).id}

@app.get("/greeting")
async def greeting(end: str = Depends(suffix)):
    return {"text": GREETING + end, "now": os.environ.get("GREETING")}
"""
FUNCTIONS = """
from twolane import ApiHandler, WorkerHandler
from PACKAGE.api import app
from PACKAGE.tasks import celery

api = ApiHandler(app)
worker = WorkerHandler(celery)
"""
GREETS = """
def test_greets(twolane):
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"
    from PACKAGE.tasks import greet
    assert greet.AsyncResult(identity).result == "hello ann"
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "hello"}
"""
CONFIGURED = "[pytest]\ntwolane_template = template.yaml\n"


class Sessions:
    """Projects in a folder, and sessions of pytest in them."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._cache = cache

    def write(self, files: Mapping[str, str], package: str = "shop") -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PACKAGE", package))

    def application(
        self, code: str = ".", *, package: str = "shop", template: str = "template.yaml",
        code_uri: str | None = None, init: bool = True,
    ) -> None:  # fmt: skip
        """Write an application with its package in the folder ``code``, and its template."""
        home = f"{code}/{package.replace('.', '/')}"
        files = {"tasks": TASKS, "api": API, "functions": FUNCTIONS}
        self.write({f"{home}/{name}.py": text for name, text in files.items()}, package)
        if init:
            self.write({f"{home}/__init__.py": ""})
        self.write({template: TEMPLATE.replace("CODE_URI", code_uri or code)}, package)

    def run(
        self, *options: str, plugins: tuple[str, ...] = (), folder: str = ".",
        environ: Mapping[str, str] | None = None, **outcomes: int,
    ) -> str:  # fmt: skip
        """Run pytest there, with the plugins of these names beside twolane's, and compare."""
        given = [each for name in ("twolane", *plugins) for each in ("-p", name)]
        strict = [] if "-W" in options else ["-W", "error"]
        done = subprocess.run(
            [Path(sys.executable).with_name("pytest"), *given, *strict, *options],
            cwd=self.folder / folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHON"))},
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "XDG_CACHE_HOME": str(self._cache),
                **(environ or {}),
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        summary = output.rstrip().rpartition("\n")[2]
        found = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", summary)}
        counted = {word: found.get(word, 0) for word in ("passed", "failed", "error", "errors")}
        wanted = {"passed": 0, "failed": 0, "error": 0, "errors": 0, **outcomes}
        assert counted == wanted, output
        return output
