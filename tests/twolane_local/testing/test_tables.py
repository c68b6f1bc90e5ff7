"""DynamoDB of a test: expiry in virtual time, and the store's faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from twolane import WorkerHandler
from twolane_local.testing.project import of_handlers, of_template
from twolane_local.testing.tables import key_of

from .conftest import TABLE, celery_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.testing.stack import Twolane

TEMPLATE = TABLE + "  Topic: {Type: AWS::SNS::Topic}\nEXTRA"
#: One that only moto's CloudFormation can make.
OTHER = "  Parameter: {Type: AWS::SSM::Parameter, Properties: {Name: a, Type: String, Value: a}}\n"


@pytest.mark.parametrize("extra", ["", OTHER], ids=["directly", "by CloudFormation"])
def test_items_expire_in_virtual_time(
    make: Callable[..., Twolane], tmp_path: Path, extra: str
) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace("EXTRA", extra))
    stack = make(of_template(tmp_path / "template.yaml", {}))
    table = boto3.resource("dynamodb").Table("local-Table")
    now = int(stack.clock.time)
    table.put_item(Item={"id": "short", "ttl": now + 60})
    table.put_item(Item={"id": "long", "ttl": now + 3600})
    table.put_item(Item={"id": "ever"})
    table.put_item(Item={"id": "word", "ttl": "soon"})
    stack.clock.advance(59)
    assert "Item" in table.get_item(Key={"id": "short"})
    stack.clock.advance(1)
    assert "Item" not in table.get_item(Key={"id": "short"})
    stack.clock.advance(3600)
    assert {item["id"] for item in table.scan()["Items"]} == {"ever", "word"}


def store(event: Any, context: Any) -> Any:
    table = boto3.resource("dynamodb").Table("results")
    table.put_item(Item={"id": event["id"]})
    return table.scan()["Items"]


@pytest.fixture
def stack(make: Callable[..., Twolane]) -> Twolane:
    stack = make(of_handlers(worker=store))
    create_results()
    return stack


def create_results() -> None:
    boto3.resource("dynamodb").create_table(
        TableName="results",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )


def stored(stack: Twolane) -> bytes:
    return stack.invoke("Worker", b'{"id": "a"}').payload


@pytest.mark.parametrize("name", ["store.down", "store.slow", "store.reply-lost"])
def test_botocore_gets_over_a_short_failure(stack: Twolane, name: str) -> None:
    began = stack.clock.time
    stack.faults.inject(name, target="PutItem a")
    assert stored(stack) == b'[{"id": "a"}]'
    assert stack.faults.active()[0]["fired"] == 1
    assert stack.clock.time > began


def test_a_store_that_stays_down(stack: Twolane) -> None:
    stack.faults.inject("store.down", count=0)
    assert b"EndpointConnectionError" in stored(stack)


def test_a_lost_write(stack: Twolane) -> None:
    stack.faults.inject("store.lost-write", target="PutItem *")
    assert stored(stack) == b"[]"
    assert stored(stack) == b'[{"id": "a"}]'


def test_the_test_s_own_calls_do_not_fail(stack: Twolane) -> None:
    stack.faults.inject("store.down", count=0)
    assert boto3.resource("dynamodb").Table("results").scan()["Items"] == []


def test_a_transaction_goes_by_its_first_item() -> None:
    item = {"Put": {"TableName": "t", "Item": {"id": {"S": "first"}}}}
    other = {"Put": {"TableName": "t", "Item": {"id": {"S": "second"}}}}
    assert key_of(json.dumps({"TransactItems": [item, other]})) == "first"


def test_a_thawed_environment_does_not_speak_for_its_successor(
    make: Callable[..., Twolane], caplog: pytest.LogCaptureFixture
) -> None:
    """It stands still past its lease, another one does the work, and its time limit strikes."""
    celery = celery_app()
    celery.conf.result_backend = "dynamodb://@us-east-1/results"
    handlers: list[WorkerHandler] = []

    @celery.task(shared=False, name="work")
    def work() -> str:
        return "worked"

    def handler(event: Any, context: Any) -> Any:
        if not handlers:  # it looks for its table, which is the stack's
            handlers.append(WorkerHandler(celery))
        return handlers[0](event, context)

    stack = make(of_handlers(worker=handler))
    create_results()
    stack.faults.inject("environment.frozen", freeze_s=4000)
    identity = celery.send_task("work").id
    stack.deferred.run_until_idle()
    assert f"the result for {identity} is dropped" in caplog.text
    result = celery.AsyncResult(identity)
    assert (result.state, result.result) == ("SUCCESS", "worked")
    assert stack.queue("tasks").dead_letters == []
