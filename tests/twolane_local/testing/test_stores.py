"""The embedded Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import fakeredis
import pytest
import redis

from twolane import WorkerHandler
from twolane_local.faults.injection import Faults
from twolane_local.journal import Journal
from twolane_local.testing import stores
from twolane_local.testing.project import of_handlers, of_template
from twolane_local.testing.stores import key_of

from .conftest import TABLE, celery_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.testing.stack import Twolane


def faults() -> Faults:
    clock: Any = None  # nothing is armed
    return Faults(Journal(clock), clock)


def test_keys_expire_in_virtual_time(stack: Twolane) -> None:
    client = redis.Redis.from_url(stores.URL)
    client.set("key", "value", ex=3600)
    stack.clock.advance(3599)
    assert client.get("key") == b"value"
    stack.clock.advance(2)
    assert client.get("key") is None


def test_a_client_from_before_is_led_there_too() -> None:
    client = redis.Redis.from_url(stores.URL, retry=None, socket_connect_timeout=1)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with stores.embedded(faults()):
        client.set("key", "value")
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "key") == b"value"
    with stores.embedded(faults()):
        assert client.get("key") is None


def test_other_servers_are_left_alone(redis_url: str) -> None:
    with stores.embedded(faults()), redis.Redis.from_url(redis_url) as client:
        client.set("key", "real")
        assert client.info("server")["tcp_port"] == int(redis_url.rpartition(":")[2].split("/")[0])


COMMANDS: list[tuple[Any, ...]] = [
    ("SET", "text", "ä ö"),
    ("SET", b"bytes", b"\r\n*1\r\n"),
    ("SET", "number", 1.5),
    ("GET", "text"),
    ("MGET", "text", "bytes", "number", "none"),
    ("CONFIG GET", "maxmemory"),
    (b"CLIENT GETNAME",),
    ("SET", "long", "x" * 100_000),
    ("STRLEN", "long"),
    ("EVAL", "return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}", 1, "number", "a"),
    ("EVAL", "return redis.call('NO SUCH COMMAND')", 0),
    ("INCR", "text"),
    ("NO SUCH COMMAND",),
    ("GET",),
]


def test_commands_are_answered_as_by_the_stock_connection(stack: Twolane) -> None:
    def answers(client: Any) -> list[str]:
        found = []
        for command in COMMANDS:
            try:
                found.append(repr(client.execute_command(*command)))
            except redis.ResponseError as error:
                found.append(f"error {error}")
        return found

    ours = answers(redis.Redis.from_url(stores.URL))
    stores.clear()
    assert ours == answers(fakeredis.FakeStrictRedis(server=stores.server()))


def test_a_connection_that_the_server_has_ended_is_lost(stack: Twolane) -> None:
    one, other = (redis.Redis.from_url(stores.URL, retry=None) for _ in range(2))
    identity = one.client_id()
    other.execute_command("CLIENT KILL", "ID", identity)
    with pytest.raises(redis.ConnectionError):
        one.set("key", "value")
    assert one.client_id() != identity


# DynamoDB of a test: expiry in virtual time, and the store's faults.

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
def with_table(make: Callable[..., Twolane]) -> Twolane:
    made = make(of_handlers(worker=store))
    create_results()
    return made


def create_results() -> None:
    boto3.resource("dynamodb").create_table(
        TableName="results",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )


def stored(with_table: Twolane) -> bytes:
    return with_table.invoke("Worker", b'{"id": "a"}').payload


@pytest.mark.parametrize("name", ["store.down", "store.slow", "store.reply-lost"])
def test_botocore_gets_over_a_short_failure(with_table: Twolane, name: str) -> None:
    began = with_table.clock.time
    with_table.faults.inject(name, target="PutItem a")
    assert stored(with_table) == b'[{"id": "a"}]'
    assert with_table.faults.active()[0]["fired"] == 1
    assert with_table.clock.time > began


def test_a_store_that_stays_down(with_table: Twolane) -> None:
    with_table.faults.inject("store.down", count=0)
    assert b"EndpointConnectionError" in stored(with_table)


def test_a_lost_write(with_table: Twolane) -> None:
    with_table.faults.inject("store.lost-write", target="PutItem *")
    assert stored(with_table) == b"[]"
    assert stored(with_table) == b'[{"id": "a"}]'


def test_the_test_s_own_calls_do_not_fail(with_table: Twolane) -> None:
    with_table.faults.inject("store.down", count=0)
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
