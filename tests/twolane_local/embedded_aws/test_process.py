"""Over the real moto, as its process composes the two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from twolane_local.embedded_aws.process import MotoProcess
from twolane_local.errors import LocalError
from twolane_local.servers import HttpServer, bind, url_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "kept",
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
                "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
            },
        }
    },
    "Identities": ["sender@example.com"],
}


def with_moto(script: Callable[[str], Any], persist: Path | None = None) -> Any:
    """Run ``script(endpoint)`` on a thread, against moto's process behind a server of ours."""

    async def main() -> Any:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener), persist=persist)
        server = HttpServer(moto, listener)
        try:
            await server.start()
            await moto.create("stack", TEMPLATE)
            return await asyncio.to_thread(script, url_of(listener))
        finally:
            await moto.stop()
            await server.stop()

    return asyncio.run(main())


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


@pytest.mark.slow
def test_items_are_kept_over_a_kill(tmp_path: Path) -> None:
    def write(endpoint: str) -> None:
        tables = client("dynamodb", endpoint)
        for key in ("a", "b"):
            tables.put_item(TableName="kept", Item={"id": {"S": key}, "n": {"N": "1"}})
        tables.update_item(
            TableName="kept",
            Key={"id": {"S": "a"}},
            UpdateExpression="SET n = n + :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        tables.delete_item(TableName="kept", Key={"id": {"S": "b"}})
        with pytest.raises(tables.exceptions.ConditionalCheckFailedException):
            tables.put_item(
                TableName="kept",
                Item={"id": {"S": "a"}},
                ConditionExpression="attribute_not_exists(id)",
            )

    def read(endpoint: str) -> Any:
        return client("dynamodb", endpoint).scan(TableName="kept")["Items"]

    with_moto(write, tmp_path)
    for _ in range(2):  # the second start reads the log that the first wrote anew
        assert with_moto(read, tmp_path) == [{"id": {"S": "a"}, "n": {"N": "2"}}]


def test_moto_answers_through_the_proxy_and_knows_the_senders() -> None:
    def script(endpoint: str) -> Any:
        client("s3", endpoint).create_bucket(Bucket="bucket")
        client("s3", endpoint).put_object(Bucket="bucket", Key="a b", Body=b"x" * 100_000)
        body = client("s3", endpoint).get_object(Bucket="bucket", Key="a b")["Body"].read()
        sent = client("sesv2", endpoint).send_email(
            FromEmailAddress="sender@example.com",
            Destination={"ToAddresses": ["a@example.com"]},
            Content={
                "Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "b"}}},
            },
        )
        return len(body), bool(sent["MessageId"])

    assert with_moto(script) == (100_000, True)


@pytest.mark.slow
def test_values_that_only_moto_knows() -> None:
    async def main() -> Any:
        moto = MotoProcess("http://127.0.0.1:1")
        try:
            values = await moto.values("stack", TEMPLATE, [("Table", "StreamArn"), ("Table", None)])
            with pytest.raises(LocalError, match=r"Nobody\.Arn is not known"):
                await moto.values("stack", TEMPLATE, [("Nobody", "Arn")])
            return values
        finally:
            await moto.stop()

    values = asyncio.run(main())
    assert values["Table", None] == "kept"
    assert ":dynamodb:" in values["Table", "StreamArn"]


@pytest.mark.slow
def test_a_stack_that_moto_refuses_is_an_error() -> None:
    async def main() -> None:
        moto = MotoProcess("http://127.0.0.1:1")
        try:
            broken = {"Resources": {"T": {"Type": "AWS::DynamoDB::Table", "Properties": {}}}}
            with pytest.raises(LocalError, match="moto does not create the stack"):
                await moto.create("stack", broken)
        finally:
            await moto.stop()

    asyncio.run(main())


@pytest.mark.slow
def test_the_process_is_only_started_where_something_needs_it() -> None:
    async def main() -> None:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener))
        server = HttpServer(moto, listener)
        await server.start()
        queue = {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "only"}}
        try:
            await moto.create("stack", {"Resources": {"Queue": queue}})
            assert moto._process is None
            stacks = await asyncio.to_thread(
                client("cloudformation", url_of(listener)).describe_stack_resources,
                StackName="stack",
            )
            assert [each["LogicalResourceId"] for each in stacks["StackResources"]] == ["Queue"]
        finally:
            await moto.stop()
            await server.stop()

    asyncio.run(main())


def test_a_tables_items_expire_as_the_template_says() -> None:
    def look(endpoint: str) -> Any:
        return client("dynamodb", endpoint).describe_time_to_live(TableName="kept")

    told = with_moto(look)["TimeToLiveDescription"]
    assert told == {"AttributeName": "ttl", "TimeToLiveStatus": "ENABLED"}
