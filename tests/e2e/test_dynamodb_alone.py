"""Many tasks and chords at once, with a table as the only store, and nothing going wrong."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .conftest import until, up

if TYPE_CHECKING:
    from pathlib import Path

TASKS, CHORDS, HEADERS = 200, 4, 10

CODE = '''
import os

from celery import Celery, chord
from fastapi import FastAPI
from twolane import ApiHandler, WorkerHandler

celery = Celery("effects")
celery.conf.update(
    accept_content=["json"],
    result_backend=os.environ["RESULT_BACKEND"],
    broker_url="sqs://",
    broker_transport_options={
        "region": os.environ["AWS_REGION"],
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
    task_default_queue="tasks",
)


def happens(what):
    """One line of a file, whole: what a task did can be counted from outside."""
    file = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{what}\\n".encode())
    os.close(file)


@celery.task
def work(number):
    happens(f"work {number}")
    return number


@celery.task
def header(which, number):
    happens(f"header {which} {number}")
    return number


@celery.task
def body(numbers, which):
    happens(f"body {which} {sum(numbers)}")
    return sum(numbers)


app = FastAPI()


@app.post("/tasks/{first}/{count}")
def tasks(first: int, count: int):
    return [work.delay(number).id for number in range(first, first + count)]


@app.post("/chord/{which}/{count}")
def chords(which: int, count: int):
    return [chord(header.s(which, number) for number in range(count))(body.s(which)).id]


api = ApiHandler(app)
worker = WorkerHandler(celery)
'''

TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Runtime: python3.13
    CodeUri: code/
    MemorySize: 1024
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        RESULT_BACKEND: !Sub dynamodb://@${AWS::Region}/${Results}?ttl_seconds=86400
        EFFECTS: %s
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: effects.api
      Events:
        Any: {Type: HttpApi}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: effects.worker
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: tasks
      VisibilityTimeout: 180
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5}
  Dead:
    Type: AWS::SQS::Queue
    Properties: {QueueName: dead}
  Results:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: results
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}
"""


def left(queues: Any) -> int:
    """Messages of both queues, waiting or under way."""
    return sum(
        int(number)
        for name in ("tasks", "dead")
        for number in queues.get_queue_attributes(
            QueueUrl=queues.get_queue_url(QueueName=name)["QueueUrl"],
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )["Attributes"].values()
    )


@pytest.mark.slow
def test_each_task_runs_once_and_each_chord_fires_once(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "effects.py").write_text(CODE)
    effects = tmp_path / "effects"
    effects.touch()
    (tmp_path / "template.yaml").write_text(TEMPLATE % effects)
    with (
        up(tmp_path, cwd=tmp_path) as (service, _),
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        ids: list[str] = []
        for which in range(CHORDS):
            share = TASKS // CHORDS
            ids += client.post(f"/tasks/{which * share}/{share}").raise_for_status().json()
            ids += client.post(f"/chord/{which}/{HEADERS}").raise_for_status().json()
        queues, tables = service.client("sqs"), service.client("dynamodb")

        def over() -> bool | None:
            bodies = effects.read_text().count("body")
            return (bodies >= CHORDS and not left(queues)) or None

        until(over, "end of the work", seconds=90)
        seen = Counter(effects.read_text().splitlines())
        pages = tables.get_paginator("scan").paginate(TableName="results")
        stored = {item["id"]["S"]: item for page in pages for item in page["Items"]}
    states = {}
    for task in ids:
        # Celery 5.7 writes the text form of its key's bytes: str(key) in its DynamoDBBackend.
        item = stored[str(f"celery-task-meta-{task}".encode())]
        states[task] = json.loads(item["result"]["B"])["status"]
    total = sum(range(HEADERS))
    assert seen == Counter(
        [f"work {number}" for number in range(TASKS)]
        + [f"header {which} {number}" for which in range(CHORDS) for number in range(HEADERS)]
        + [f"body {which} {total}" for which in range(CHORDS)]
    )
    assert set(states.values()) == {"SUCCESS"}
    assert len(states) == TASKS + CHORDS
