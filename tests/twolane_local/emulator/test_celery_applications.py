"""Celery applications as people write them, in real environments of their own."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.checks.lint import lint
from twolane_local.model import Options

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator

    from ...conftest import Emulate  # noqa: TID252

TEMPLATE = f"""
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Runtime: python{sys.version_info[0]}.{sys.version_info[1]}
    CodeUri: code/
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Jobs
        TWOLANE_STATE_STORE: !Sub dynamodb://@${{AWS::Region}}/${{State}}
VARIABLES
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties: {{Handler: shop.api.handler, Events: {{Any: {{Type: HttpApi}}}}}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.worker.handler
      RecursiveLoop: Allow
      Events:
        Jobs:
          Type: SQS
          Properties: {{Queue: !GetAtt Jobs.Arn, FunctionResponseTypes: [ReportBatchItemFailures]}}
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 180
      RedrivePolicy: {{deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5}}
  Dead: {{Type: AWS::SQS::Queue, Properties: {{MessageRetentionPeriod: 1209600}}}}
  State:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{{AttributeName: id, AttributeType: S}}]
      KeySchema: [{{AttributeName: id, KeyType: HASH}}]
"""

FILES = {
    "shop/__init__.py": "from shop.celery_app import app as celery_app\n",
    # Django's style: one namespace in a module of settings.
    "shop/settings.py": """
import os
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {"default": {"url": os.environ["TASK_QUEUE_URL"]}},
}
CELERY_RESULT_EXTENDED = True
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_TIME_LIMIT = 2
""",
    "shop/celery_app.py": """
from celery import Celery
app = Celery("shop")
app.config_from_object("shop.settings", namespace="CELERY")
app.autodiscover_tasks(["shop.orders"], related_name="jobs")
""",
    "shop/orders/__init__.py": "",
    "shop/orders/jobs.py": """
from celery import Task, shared_task

class Logged(Task):
    abstract = True
    seen = []
    def __call__(self, *args, **kwargs):
        self.seen.append(self.name)
        return super().__call__(*args, **kwargs)

@shared_task(bind=True, base=Logged, max_retries=2)
def ship(self, order):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return [order, self.seen, self.app.main]
""",
    "shop/api.py": """
from celery.result import AsyncResult
from fastapi import FastAPI
from shop.orders.jobs import ship
from twolane import ApiHandler

api = FastAPI()

@api.post("/orders/{order}")
def start(order: int):
    return {"id": ship.delay(order).id}

@api.get("/tasks/{id}")
def status(id: str):
    result = AsyncResult(id)
    return {"state": result.state, "result": result.result if result.ready() else None}

handler = ApiHandler(api)
""",
    "shop/worker.py": """
from shop.celery_app import app
from twolane import WorkerHandler
handler = WorkerHandler(app)
""",
}


def project(folder: Path, **variables: str) -> Path:
    for name, text in FILES.items():
        file = folder / "code" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    lines = "".join(f"        {name}: {value}\n" for name, value in variables.items())
    template = folder / "template.yaml"
    template.write_text(TEMPLATE.replace("VARIABLES\n", lines))
    return template


@pytest.mark.slow
def test_an_application_with_shared_tasks_and_results_in_a_database(
    emulate: Emulate, tmp_path: Path
) -> None:
    pytest.importorskip("sqlalchemy")
    results = tmp_path / "results.sqlite"
    template = project(
        tmp_path, CELERY_BROKER_URL="sqs://", CELERY_RESULT_BACKEND=f"db+sqlite:///{results}"
    )
    assert lint(template, {}) == []
    answers: list[Any] = []

    async def script(emulator: Emulator) -> None:
        (url,) = emulator.addresses.apis.values()
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            order = (await client.post("/orders/7")).json()["id"]
            async with asyncio.timeout(90):  # a store that is slow returns the message for 30 s
                while not answers or answers[-1]["state"] not in {"SUCCESS", "FAILURE"}:
                    await asyncio.sleep(0.1)
                    answers.append((await client.get(f"/tasks/{order}")).json())

    emulate(Options(template, port=0, aws_port=0), script)
    name = "shop.orders.jobs.ship"
    assert answers[-1] == {"state": "SUCCESS", "result": [7, [name, name], "shop"]}
    with sqlite3.connect(results) as database:
        stored = database.execute("select status, name from celery_taskmeta").fetchall()
    assert stored == [("SUCCESS", name)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}, "redis://127.0.0.1:1/0"),
        ({}, "amqp://guest@localhost//, Celery's default"),
        ({"CELERY_BROKER_URL": "redis://cache.invalid"}, "redis://cache.invalid"),
    ],
)
def test_a_broker_that_leaves_the_queue_empty_is_said_at_the_start(
    emulate: Emulate, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    template = project(tmp_path, CELERY_RESULT_BACKEND="cache+memory://", **variables)
    (finding,) = lint(template, {})
    assert (finding.rule.id, finding.resource) == ("TL204", "Worker")
    warned: list[tuple[str | None, str]] = []

    async def script(emulator: Emulator) -> None:
        warned.extend(
            (event.function, event.data["message"])
            for event in emulator.journal
            if "publishes to" in str(event.data.get("message"))
        )

    emulate(Options(template, port=0, aws_port=0), script)
    assert {function for function, _ in warned} == {"Api", "Worker"}
    for _, line in warned:
        assert said in line
        assert "the variable TASK_QUEUE_URL has a queue's URL" in line
