"""Celery as Flask's page on it does: flask.palletsprojects.com/en/stable/patterns/celery"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from ..e2e.conftest import until, up  # noqa: TID252
from .conftest import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Ran

#: The page's own lines, but for the settings.
SHOP = """
import os

from celery import Celery, Task, shared_task
from celery.result import AsyncResult
from flask import Flask, current_app, request


def celery_init_app(app: Flask) -> Celery:
    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


@shared_task(ignore_result=False)
def add_together(a: int, b: int) -> int:
    current_app.extensions["torn down"].append(1)
    return a + b + current_app.config["MORE"]


def settings():
    if "TASK_QUEUE_URL" not in os.environ:
        return dict(broker_url="memory://", result_backend="cache+memory://",
                    task_default_queue="tasks")
    return dict(
        broker_url="sqs://",
        broker_transport_options={
            "region": os.environ["AWS_REGION"],
            "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        result_backend=os.environ["RESULT_BACKEND"],
    )


def create_app() -> Flask:
    app = Flask("shop")
    app.config.from_mapping(MORE=100, CELERY=settings())
    app.extensions["torn down"] = []
    celery_init_app(app)
    app.teardown_appcontext(lambda error: app.extensions["torn down"].append(0))

    @app.post("/add")
    def start_add() -> dict[str, object]:
        a = request.form.get("a", type=int)
        b = request.form.get("b", type=int)
        result = add_together.delay(a, b)
        return {"result_id": result.id}

    @app.get("/result/<id>")
    def task_result(id: str) -> dict[str, object]:
        result = AsyncResult(id)
        return {
            "ready": result.ready(),
            "successful": result.successful(),
            "value": result.result if result.ready() else None,
        }

    return app


flask_app = create_app()
celery_app = flask_app.extensions["celery"]
"""

WORK = (
    SHOP
    + """
from kombu import Queue
from twolane import ApiHandler, WorkerHandler
api = ApiHandler(flask_app, environ={})
worker = WorkerHandler(celery_app, queues=RecordedQueues(), environ={})

def call(method, path, body=""):
    answer = api({
        "version": "1.0", "resource": "/{proxy+}", "path": path, "httpMethod": method,
        "headers": {"Host": "id.example.com", "Content-Type": "application/x-www-form-urlencoded"},
        "multiValueHeaders": {"Host": ["id.example.com"],
            "Content-Type": ["application/x-www-form-urlencoded"]},
        "queryStringParameters": None, "multiValueQueryStringParameters": None,
        "requestContext": {"identity": {"sourceIp": "203.0.113.7"}, "stage": "prod",
            "path": "/prod" + path, "httpMethod": method, "resourcePath": "/{proxy+}"},
        "body": body, "isBase64Encoded": False,
    }, Context())
    return json.loads(answer["body"])

started = call("POST", "/add", "a=1&b=2")
before = call("GET", "/result/" + started["result_id"])
with celery_app.connection_for_write() as connection:
    queue = Queue("tasks")(connection.default_channel)
    queue.declare()
    message = queue.get(no_ack=True)
text = json.dumps({
    "body": message.body if isinstance(message.body, str) else message.body.decode(),
    "content-type": message.content_type, "content-encoding": message.content_encoding,
    "headers": message.headers, "properties": {**message.properties, "body_encoding": "utf-8"},
}, default=str)
flask_app.extensions["torn down"].clear()
answer = worker(event(record(text)), Context())
say(answer=answer, before=before, order=list(flask_app.extensions["torn down"]),
    after=call("GET", "/result/" + started["result_id"]))
"""
)


def test_a_task_runs_within_the_applications_context(script: Callable[..., Ran]) -> None:
    said = script(WORK).said
    assert said["before"] == {"ready": False, "successful": False, "value": None}
    assert said["answer"] == {"batchItemFailures": []}
    assert said["order"] == [1, 0], "the body, and then the teardown of its context"
    assert said["after"] == {"ready": True, "successful": True, "value": 103}


TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Runtime: python3.11
    CodeUri: .
    Timeout: 30
    MemorySize: 512
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        RESULT_BACKEND: !Sub dynamodb://@${AWS::Region}/${Results}
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: handlers.api
      Events:
        All:
          Type: API_TYPE
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: handlers.worker
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 180
  Results:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
"""
HANDLERS = """
from shop import celery_app, flask_app
from twolane import ApiHandler, WorkerHandler

api = ApiHandler(flask_app)
worker = WorkerHandler(celery_app)
"""
ANY = """HttpApi"""
REST = """Api
          Properties:
            Path: /{proxy+}
            Method: ANY"""


#: Of a project's own suite, with the plugin.
ITS_TEST = """
def test_add(twolane):
    started = twolane.client.post("/add", data={"a": "1", "b": "2"})
    twolane.deferred.run()
    result = f"/result/{started.json()['result_id']}"
    assert twolane.client.get(result).json()["value"] == 103


def test_a_view_that_sleeps_moves_the_clock(twolane):
    before = twolane.clock.now
    assert twolane.client.get("/slow").text == "slow"
    assert (twolane.clock.now - before).total_seconds() == 10
"""
SLOW = """
@flask_app.get("/slow")
def slow():
    import time
    time.sleep(10)
    return "slow"
"""


@pytest.mark.slow
def test_it_is_tested_in_virtual_time(tmp_path: Path) -> None:
    for folder in ("src", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "shop.py").write_text(SHOP + SLOW)
    (tmp_path / "src" / "handlers.py").write_text(HANDLERS)
    (tmp_path / "tests" / "test_its.py").write_text(ITS_TEST)
    template = TEMPLATE.replace("API_TYPE", ANY).replace("CodeUri: .", "CodeUri: src")
    (tmp_path / "template.yaml").write_text(template)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -o timeout=60\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "tests"]
    assert "2 passed" in run(command, tmp_path, PYTHONPATH=str(ROOT / "handlers")).stdout


@pytest.mark.slow
@pytest.mark.parametrize("api_type", [ANY, REST], ids=["HTTP API", "REST API"])
def test_it_runs_under_twolane_up(tmp_path: Path, api_type: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "shop.py").write_text(SHOP)
    (project / "handlers.py").write_text(HANDLERS)
    (project / "template.yaml").write_text(TEMPLATE.replace("API_TYPE", api_type))
    with up(tmp_path, cwd=project, PYTHONPATH=str(ROOT / "handlers")) as (service, _):
        started = httpx.post(
            f"{service.url}/add", data={"a": "1", "b": "2"}, timeout=60, trust_env=False
        )
        assert started.status_code == 200, started.text + service.log_text()
        result = f"/result/{started.json()['result_id']}"

        def look() -> dict[str, object] | None:
            got = httpx.get(f"{service.url}{result}", timeout=60, trust_env=False)
            if got.status_code == 500:  # on a busy machine, the table's first answer takes too long
                return None
            answer: dict[str, object] = got.json()
            return answer if answer["ready"] else None

        assert until(look, "result", seconds=100)["value"] == 103
        published = next(
            line
            for line in service.log_text().splitlines()
            if "published shop.add_together" in line
        )
        task = started.json()["result_id"]
        assert task[:8] in published, "the view's publish is seen, with its task"
