"""Messages that nobody meant to send, by SendMessage to a running `twolane up`, among tasks that
are well: those run once each, the others end in the dead-letter queue as they were, and whoever
looks at them there sees them.
"""

from __future__ import annotations

import base64
import bz2
import json
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from .conftest import BIN, clean_environ, until, up

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Results:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: results
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: tasks
      VisibilityTimeout: 120
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 2}
  Dead: {Type: AWS::SQS::Queue, Properties: {QueueName: dead}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Runtime: python3.13
      Handler: shop.handler
      Timeout: 60
      MemorySize: 512
      Environment:
        Variables: {QUEUE: !Ref Tasks, EFFECTS: EFFECTS_FILE, BACKEND: "RESULT_BACKEND"}
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            BatchSize: 100
            MaximumBatchingWindowInSeconds: 2
            FunctionResponseTypes: [ReportBatchItemFailures]
"""
SHOP = """
import os
from celery import Celery
from twolane import WorkerHandler

celery = Celery("shop", broker="sqs://", backend=os.environ["BACKEND"])
celery.conf.update(
    task_default_queue="tasks", result_extended=True,
    broker_transport_options={
        "region": "us-east-1", "predefined_queues": {"tasks": {"url": os.environ["QUEUE"]}},
    },
)

@celery.task(name="note")
def note(name):
    with open(os.environ["EFFECTS"], "a") as out:
        out.write(name + chr(10))

handler = WorkerHandler(celery)
"""
DEEP = "[" * 200_000


def message(name: str, **headers: Any) -> dict[str, Any]:
    """A task's envelope, as a stock publisher of another language might write it."""
    return {
        "body": json.dumps([[name], {}, {}]), "content-type": "application/json",
        "content-encoding": "utf-8", "headers": {"task": "note", "id": name, **headers},
        "properties": {"delivery_tag": name},
    }  # fmt: skip


BOMB = base64.b64encode(bz2.compress(bytes(10_000_000)) * 7_500).decode()
REFUSED: list[Any] = [
    message("odd", stamped_headers=5),
    message("odd", stamps=7),
    message("odd", id="a\ud800"),
    message("odd", id=5),
    message("odd", timelimit=["x", "y"]),
    message("odd", shadow={"a": 1}),
    message("odd", task=[]),
    {**message("odd"), "content-type": {}},
    {**message("odd"), "body": DEEP},
    {**message("odd"), "body": '[["odd"], {}, 7]'},
    {**message("odd"), "headers": {}, "body": '{"task": "note", "id": [1], "args": []}'},
    {**message("odd", compression="bzip2"), "properties": {"body_encoding": "base64"},
     "body": BOMB},
    f'{{"properties": {{}}, "headers": {DEEP}',
    '{"properties": {}, "headers": {"task": "note", "id": ' + "9" * 10_000 + "}}",
]  # fmt: skip
LONG = "odd-long-" + "x" * 3_000
RUN: list[Any] = [
    message("odd-retries", retries="x", parent_id="a\ud800"),
    message("odd-tag") | {"properties": {"delivery_tag": {"a": 1}, "delivery_info": 5}},
    message(LONG),
]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis", "dynamodb"])
def test_each_harms_its_own_record_only(
    request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    if store == "redis":
        backend = request.getfixturevalue("redis_url")
    else:
        backend = "dynamodb://@us-east-1/results?ttl_seconds=86400"
    effects = tmp_path / "effects"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(SHOP)
    (tmp_path / "template.yaml").write_text(
        TEMPLATE.replace("EFFECTS_FILE", str(effects)).replace("RESULT_BACKEND", backend)
    )
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_RUNTIME_DIR": ""}
    bodies = [one if isinstance(one, str) else json.dumps(one) for one in REFUSED]
    wells = [f"well-{number}" for number in range(60)]
    with up(tmp_path, "--no-reload", cwd=tmp_path, **own) as (service, said):
        aws = {
            "AWS_ENDPOINT_URL": said["aws"], "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        }  # fmt: skip
        sqs = boto3.client(
            "sqs", endpoint_url=said["aws"], region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip
        url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]
        began = time.monotonic()
        left = [*bodies, *map(json.dumps, RUN)]
        for start in range(0, len(wells), 4):
            for one in left[start // 4 * 2 : start // 4 * 2 + 2]:
                sqs.send_message(QueueUrl=url, MessageBody=one)
            for name in wells[start : start + 4]:
                sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message(name)))

        def ran() -> Counter[str]:
            return Counter(effects.read_text().split()) if effects.exists() else Counter()

        expected = Counter([*wells, "odd-retries", "odd-tag", LONG])
        until(lambda: True if not expected - ran() else None, "end of what is well", seconds=60)
        assert time.monotonic() - began < 40, "the others took their time"

        def dead() -> list[dict[str, Any]] | None:
            answer = httpx.get(f"{said['console']}/api/queues/dead/messages", trust_env=False)
            assert answer.status_code == 200, answer.text
            found: list[dict[str, Any]] = answer.json()["messages"]
            return found if len(found) == len(bodies) else None

        until(dead, f"{len(bodies)} dead letters", seconds=60)
        for arguments in (["dlq", "list"], ["dlq", "list", "--json"], ["tail", "--json"]):
            done = subprocess.run(
                [str(BIN / "twolane"), *arguments], cwd=tmp_path, capture_output=True, text=True,
                timeout=60, check=False, env=clean_environ(**own, **aws),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
        kept = []
        dead_url = sqs.get_queue_url(QueueName="dead")["QueueUrl"]
        while received := sqs.receive_message(
            QueueUrl=dead_url, MaxNumberOfMessages=10, VisibilityTimeout=100
        ).get("Messages"):
            kept += [one["Body"] for one in received]
        assert sorted(kept) == sorted(bodies)
        assert ran() == expected
        log = service.log.read_text()
    assert "has more than 67,108,864 bytes" in log
