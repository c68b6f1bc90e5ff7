"""The data file's figures about twolane itself are true."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from celery import Celery
from moto import mock_aws

from twolane.worker import WorkerHandler
from twolane_local.checks.advise import prices

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def calls(own_environ: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Every call to DynamoDB, by name; a batch counts its keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    counted: Counter[str] = Counter()

    def count(params: dict[str, Any], model: Any, **_: Any) -> None:
        wanted = json.loads(params["body"]).get("RequestItems", {})
        counted[model.name] += sum(len(table["Keys"]) for table in wanted.values()) or 1

    with mock_aws():
        import botocore.session

        make = botocore.session.Session.create_client

        def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
            client = make(self, *args, **kwargs)
            client.meta.events.register("before-call.dynamodb", count)
            return client

        monkeypatch.setattr(botocore.session.Session, "create_client", watched)
        yield counted


def event(task: str) -> dict[str, Any]:
    identity = str(uuid.uuid4())
    message = {
        "body": json.dumps([[], {}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": identity, "retries": 0},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "tasks"}, "priority": 0,
                       "delivery_tag": identity, "body_encoding": "utf-8"},
    }  # fmt: skip
    record = {
        "messageId": identity,
        "receiptHandle": "receipt",
        "body": json.dumps(message),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:tasks",
        "awsRegion": "us-east-1",
    }
    return {"Records": [record]}


def test_an_attempt_writes_and_reads_as_often_as_it_is_charged_for(calls: Counter[str]) -> None:
    boto3.client("dynamodb").create_table(
        TableName="results",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    backend = "dynamodb://@us-east-1/results?ttl_seconds=3600"
    celery = Celery("counted", broker="sqs://", backend=backend)
    celery.conf.update(task_serializer="json", result_extended=True, task_track_started=True)

    @celery.task(name="counted.one")
    def one() -> int:
        return 1

    handler = WorkerHandler(celery)
    assert handler(event("counted.one")) == {"batchItemFailures": []}
    calls.clear()  # the first call also announced the worker
    assert handler(event("counted.one")) == {"batchItemFailures": []}
    per_task = prices()["per_task"]
    # A transaction of two items, each of which counts twice:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
    writes = 4 * calls["TransactWriteItems"]
    writes += calls["PutItem"] + calls["UpdateItem"] + calls["DeleteItem"]
    assert writes == per_task["store_writes"]
    assert calls["GetItem"] + calls["BatchGetItem"] == per_task["store_reads"]
