"""Over the real moto, as its process composes the two."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.config import Config

from twolane_local.aws.moto.process import MotoProcess
from twolane_local.errors import LocalError
from twolane_local.http.servers import HttpServer, bind, url_of
from twolane_local.model import Options

from ..running import run  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.emulator import Emulator

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
        },
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "kept"}},
    },
    "Identities": ["sender@example.com"],
}


def with_moto(
    script: Callable[[str], Any],
    persist: Path | None = None,
    now: Callable[[], float] = time.time,
) -> Any:
    """Run ``script(endpoint)`` on a thread, against moto's process behind a server of ours."""

    async def main() -> Any:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener), persist=persist, now=now)
        server = HttpServer(moto, listener)
        try:
            await server.start()
            await moto.create("stack", TEMPLATE)
            return await asyncio.to_thread(script, url_of(listener))
        finally:
            await moto.stop()
            await server.stop()

    return asyncio.run(main())


def client(service: str, endpoint: str, *, retries: int | None = None) -> Any:
    config = Config(retries={"total_max_attempts": retries + 1}) if retries is not None else None
    return boto3.client(
        service,
        config=config,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


@pytest.mark.slow
def test_objects_are_kept_over_a_kill(tmp_path: Path) -> None:
    def write(endpoint: str) -> None:
        objects = client("s3", endpoint)
        objects.put_object(
            Bucket="kept", Key="a/é ü", Body=b"1\n2", ContentType="text/csv", Metadata={"who": "me"}
        )
        for key in ("b", "c", "d", "e"):
            objects.put_object(Bucket="kept", Key=key, Body=key.encode())
        objects.put_object(Bucket="kept", Key="b", Body=b"newer")
        objects.delete_object(Bucket="kept", Key="c")
        objects.delete_objects(Bucket="kept", Delete={"Objects": [{"Key": "d"}]})
        objects.copy_object(Bucket="kept", Key="f", CopySource="kept/a/é ü")
        part = {"Bucket": "kept", "Key": "whole"}
        upload = objects.create_multipart_upload(**part)["UploadId"]
        tag = objects.upload_part(**part, UploadId=upload, PartNumber=1, Body=b"x" * 100)["ETag"]
        objects.complete_multipart_upload(
            **part, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]}
        )

    def read(endpoint: str) -> None:
        objects = client("s3", endpoint)
        listed = [item["Key"] for item in objects.list_objects_v2(Bucket="kept")["Contents"]]
        assert listed == ["a/é ü", "b", "e", "f", "whole"]
        for key in ("a/é ü", "f"):
            found = objects.get_object(Bucket="kept", Key=key)
            assert found["Body"].read() == b"1\n2"
            assert (found["ContentType"], found["Metadata"]) == ("text/csv", {"who": "me"})
        assert objects.get_object(Bucket="kept", Key="b")["Body"].read() == b"newer"
        assert objects.get_object(Bucket="kept", Key="whole")["Body"].read() == b"x" * 100
        objects.delete_object(Bucket="kept", Key="e")

    with_moto(write, tmp_path)
    with_moto(read, tmp_path)

    def last(endpoint: str) -> None:
        listed = client("s3", endpoint).list_objects_v2(Bucket="kept")["Contents"]
        assert [item["Key"] for item in listed] == ["a/é ü", "b", "f", "whole"]

    with_moto(last, tmp_path)


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
    for _ in range(2):  # the second start reads the log that the first has rewritten
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


def test_an_object_s_head_says_its_length_and_a_large_one_comes_whole() -> None:
    content = bytes(range(256)) * 40_000

    def script(endpoint: str) -> None:
        s3 = client("s3", endpoint)
        s3.put_object(Bucket="kept", Key="a b/é", Body=content, Metadata={"mine": "x"})
        assert s3.head_object(Bucket="kept", Key="a b/é")["ContentLength"] == len(content)
        found = s3.get_object(Bucket="kept", Key="a b/é")
        assert found["Body"].read() == content
        assert found["Metadata"] == {"mine": "x"}
        with pytest.raises(s3.exceptions.ClientError, match="404"):
            s3.head_object(Bucket="kept", Key="missing")

    with_moto(script)


@pytest.mark.slow
def test_items_expire_at_the_emulator_s_time() -> None:
    """It may be ahead of the machine's clock."""
    hands = [1_900_000_000.0]

    def script(endpoint: str) -> list[bool]:
        tables = client("dynamodb", endpoint)
        item = {"id": {"S": "a"}, "ttl": {"N": "1900000060"}}
        tables.put_item(TableName="kept", Item=item)
        there = []
        for moved in (0, 59, 1):
            hands[0] += moved
            there.append("Item" in tables.get_item(TableName="kept", Key={"id": {"S": "a"}}))
        return there

    assert with_moto(script, now=lambda: hands[0]) == [True, True, False]


@pytest.mark.slow
def test_values_that_only_moto_knows() -> None:
    async def main() -> Any:
        moto = MotoProcess("http://127.0.0.1:1")
        try:
            wanted = [("Table", "StreamArn"), ("Table", None), ("Table", "Colour"), ("No", "Arn")]
            return await moto.values("stack", TEMPLATE, wanted)
        finally:
            await moto.stop()

    values = asyncio.run(main())
    assert values["Table", None] == "kept"
    assert ":dynamodb:" in values["Table", "StreamArn"]
    assert len(values) == 2


@pytest.mark.slow
def test_a_stack_that_moto_refuses_is_an_error() -> None:
    async def main() -> None:
        moto = MotoProcess("http://127.0.0.1:1")
        try:
            short = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "a"}}
            broken = {"Resources": {"B": short}}
            with pytest.raises(LocalError, match="moto cannot create the stack"):
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


@pytest.mark.slow
def test_a_tables_items_expire_as_the_template_says() -> None:
    def look(endpoint: str) -> Any:
        return client("dynamodb", endpoint).describe_time_to_live(TableName="kept")

    told = with_moto(look)["TimeToLiveDescription"]
    assert told == {"AttributeName": "ttl", "TimeToLiveStatus": "ENABLED"}


def _killed(persist: Path | None) -> Any:
    """Kill the process under a client's feet; what the client then reads, or the error."""

    async def main() -> Any:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener), persist=persist)
        server = HttpServer(moto, listener)
        await server.start()
        try:
            await moto.create("stack", TEMPLATE)
            tables = client("dynamodb", url_of(listener))
            for number in range(3):
                item = {"id": {"S": str(number)}}
                await asyncio.to_thread(tables.put_item, TableName="kept", Item=item)
                assert moto._process is not None
                moto._process.kill()
            read = await asyncio.to_thread(tables.scan, TableName="kept", ConsistentRead=True)
            return sorted(each["id"]["S"] for each in read["Items"])
        finally:
            await moto.stop()
            await server.stop()

    return asyncio.run(main())


@pytest.mark.slow
def test_a_killed_process_is_started_again_with_what_it_kept(tmp_path: Path) -> None:
    assert _killed(tmp_path) == ["0", "1", "2"]


@pytest.mark.slow
def test_a_killed_process_that_kept_nothing_is_started_again_with_the_stack() -> None:
    """The last item was sent to a process that was killed: the table is there, and empty."""
    assert _killed(None) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are Linux's to set")
def test_on_a_full_disk_a_table_answers_nothing_that_a_kill_may_undo(tmp_path: Path) -> None:
    """A full disk, as the kernel plays it for one process: no file of its may grow."""

    async def main() -> tuple[list[str], list[str], list[str]]:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener), persist=tmp_path)
        server = HttpServer(moto, listener)
        await server.start()
        try:
            await moto.create("stack", TEMPLATE)
            tables = client("dynamodb", url_of(listener), retries=0)

            async def put(name: str) -> str:
                item = {"id": {"S": name}, "text": {"S": "x" * 3000}}
                try:
                    await asyncio.to_thread(tables.put_item, TableName="kept", Item=item)
                except tables.exceptions.InternalServerError:
                    return "refused"
                return name

            async def scan() -> list[str]:
                try:
                    read = await asyncio.to_thread(tables.scan, TableName="kept")
                except tables.exceptions.InternalServerError:
                    return ["refused"]
                return sorted(each["id"]["S"] for each in read["Items"])

            assert moto._process is not None
            told = [await put("before")]
            soft, hard = resource.prlimit(moto._process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(moto._process.pid, resource.RLIMIT_FSIZE, (4000, hard))
            told += [await put("during"), *await scan()]
            resource.prlimit(moto._process.pid, resource.RLIMIT_FSIZE, (soft, hard))
            there = await scan()
            told.append(await put("after"))
            moto._process.kill()
            again = client("dynamodb", url_of(listener))
            read = await asyncio.to_thread(again.scan, TableName="kept")
            return told, there, sorted(each["id"]["S"] for each in read["Items"])
        finally:
            await moto.stop()
            await server.stop()

    told, there, kept = asyncio.run(main())
    assert told == ["before", "refused", "refused", "after"]
    # The refused write is there, as it may be at AWS, and is kept from the first read on.
    assert there == ["before", "during"]
    assert kept == ["after", "before", "during"]


@pytest.mark.slow
def test_binary_values_are_kept_wherever_they_stand(tmp_path: Path) -> None:
    """Celery's results are binary. moto has them as text, as bytes, or as both at once."""
    raw = b"\x00\xffresult"
    item = {
        "plain": {"B": raw},
        "set": {"BS": [raw, b"2"]},
        "list": {"L": [{"B": raw}, {"S": "text"}]},
        "map": {"M": {"in": {"B": raw}, "deep": {"M": {"er": {"L": [{"B": raw}]}}}}},
    }
    names = ("put", "transacted", "updated")

    def write(endpoint: str) -> None:
        tables = client("dynamodb", endpoint)
        tables.put_item(TableName="kept", Item={"id": {"S": "put"}, **item})
        put = {"TableName": "kept", "Item": {"id": {"S": "transacted"}, **item}}
        tables.transact_write_items(TransactItems=[{"Put": put}])
        tables.update_item(
            TableName="kept",
            Key={"id": {"S": "updated"}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in item),
            ExpressionAttributeNames={f"#{name}": name for name in item},
            ExpressionAttributeValues={f":{name}": value for name, value in item.items()},
        )
        tables.batch_get_item(
            RequestItems={"kept": {"Keys": [{"id": {"S": name}} for name in names]}}
        )

    def read(endpoint: str) -> None:
        tables = client("dynamodb", endpoint)
        for name in names:
            found = tables.get_item(TableName="kept", Key={"id": {"S": name}})["Item"]
            found["set"]["BS"].sort()
            assert found == {"id": {"S": name}, **item}

    with_moto(write, tmp_path)
    with_moto(read, tmp_path)  # from the log of the writes
    with_moto(read, tmp_path)  # from the items that were left


FED: dict[str, Any] = {
    "Resources": {
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "fed"}},
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "fed"}},
    },
    "Rules": [
        {"Name": "fed", "EventPattern": {"source": ["a"]}, "EventBusName": "of-another-stack",
         "Targets": [{"Id": name, "Arn": f"arn:aws:lambda:us-east-1:123456789012:function:{name}"}
                     for name in ("F", "G")]},
    ],
    "Subscriptions": [
        {"TopicArn": "arn:aws:sns:us-east-1:123456789012:fed", "Protocol": "lambda",
         "Endpoint": "arn:aws:lambda:us-east-1:123456789012:function:F",
         "FilterPolicy": {"$or": [{"a": [{"wildcard": "x*"}]}, {"b": [{"cidr": "10.0.0.0/8"}]}]}},
    ],
    "Notifications": {
        "fed": {"CloudFunctionConfiguration": [
            {"CloudFunction": "arn:aws:lambda:us-east-1:123456789012:function:F",
             "Event": ["s3:ObjectCreated:*"]}]},
    },
}  # fmt: skip


@pytest.mark.slow
def test_the_next_template_takes_back_what_the_former_had_subscribed() -> None:
    def held(endpoint: str) -> tuple[list[str], int, int]:
        events = client("events", endpoint)
        bus = {"EventBusName": "of-another-stack"}
        targets = [
            target["Id"]
            for rule in events.list_rules(**bus)["Rules"]
            for target in events.list_targets_by_rule(Rule=rule["Name"], **bus)["Targets"]
        ]
        topics = client("sns", endpoint).list_subscriptions()["Subscriptions"]
        notified = client("s3", endpoint).get_bucket_notification_configuration(Bucket="fed")
        return targets, len(topics), len(notified.get("LambdaFunctionConfigurations", []))

    async def main() -> list[Any]:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener))
        server = HttpServer(moto, listener)
        fewer = {**FED, "Rules": [{**FED["Rules"][0], "Targets": FED["Rules"][0]["Targets"][:1]}]}
        none = {"Resources": FED["Resources"]}
        found = []
        try:
            await server.start()
            for template in (FED, FED, fewer, none):
                await moto.create("stack", template)
                found.append(await asyncio.to_thread(held, url_of(listener)))
        finally:
            await moto.stop()
            await server.stop()
        return found

    whole = (["F", "G"], 1, 1)
    assert asyncio.run(main()) == [whole, whole, (["F"], 1, 1), ([], 0, 0)]


KEYED = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Key: {Type: AWS::KMS::Key, Properties: {}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: sealed
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      SSESpecification: {SSEEnabled: true, SSEType: KMS, KMSMasterKeyId: !GetAtt Key.Arn}
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: fn
      Runtime: python3.11
      Handler: index.handler
      InlineCode: |
        import os
        def handler(event, context):
            return os.environ["KEY"]
      Environment: {Variables: {KEY: !Ref Key}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [True, False])
def test_after_a_kill_functions_know_the_new_ids_and_kept_items_are_there(
    tmp_path: Path, keeps: bool
) -> None:
    """A table that needs a value of moto's own is not in the first templates that moto gets."""
    (tmp_path / "template.yaml").write_text(KEYED)
    keep = tmp_path / "kept"
    options = Options(
        tmp_path / "template.yaml", port=0, aws_port=0, http=False, persist=keep if keeps else None
    )

    async def script(emulator: Emulator) -> None:
        async def call(service: str, name: str, **given: Any) -> Any:
            made = client(service, emulator.aws_url)
            return await asyncio.to_thread(getattr(made, name), **given)

        async def key() -> str:
            answer = await call("lambda", "invoke", FunctionName="fn")
            return str(json.loads(answer["Payload"].read()))

        item = {"id": {"S": "a"}}
        await call("dynamodb", "put_item", TableName="sealed", Item=item)
        before = await key()
        moto = emulator._moto
        assert moto._process is not None
        moto._process.kill()
        async with asyncio.timeout(60):
            while (after := await key()) == before:
                await asyncio.sleep(0.1)
        described = await call("kms", "describe_key", KeyId=after)
        assert described["KeyMetadata"]["KeyId"] == after
        found = await call("dynamodb", "scan", TableName="sealed")
        assert found["Items"] == ([item] if keeps else [])
        lines = [event.data["line"] for event in emulator.journal if event.kind == "log"]
        (told,) = [line for line in lines if "the moto process ended" in line]
        assert "lost" in told
        assert ("--persist DIR" in told) is not keeps

    run(options, script)
    if keeps:  # and the next start has them, too

        async def look(emulator: Emulator) -> None:
            tables = client("dynamodb", emulator.aws_url)
            found = await asyncio.to_thread(tables.scan, TableName="sealed")
            assert found["Items"] == [{"id": {"S": "a"}}]

        run(options, look)


@pytest.mark.slow
def test_a_call_while_the_process_starts_again_waits_or_gets_the_service_s_503() -> None:
    async def main() -> tuple[list[str], list[str]]:
        listener = bind(0, "--port")
        moto = MotoProcess(url_of(listener))
        server = HttpServer(moto, listener)
        await server.start()
        seen: list[str] = []

        async def ask(service: str, name: str) -> str:
            made = client(service, url_of(listener), retries=0)
            try:
                await asyncio.to_thread(getattr(made, name))
            except made.exceptions.ClientError as error:
                return str(error.response["Error"]["Code"])
            return "answered"

        calls = [
            ("dynamodb", "list_tables"), ("sts", "get_caller_identity"), ("s3", "list_buckets"),
            ("ec2", "describe_regions"), ("apigateway", "get_rest_apis"),
        ]  # fmt: skip
        try:
            await moto.create("stack", TEMPLATE)
            for _ in range(2):
                assert moto._process is not None
                running = [asyncio.create_task(ask(*call)) for call in calls for _ in range(3)]
                await asyncio.sleep(0.02)
                moto._process.kill()
                running += [asyncio.create_task(ask(*call)) for call in calls]
                async with asyncio.timeout(60):
                    seen += await asyncio.gather(*running)
            return seen, [await ask(*call) for call in calls]
        finally:
            await moto.stop()
            await server.stop()

    during, after = asyncio.run(main())
    assert set(during) <= {"answered", "ServiceUnavailable"}
    assert set(after) == {"answered"}


def test_only_the_emulator_may_call_the_process() -> None:
    async def main() -> list[int]:
        moto = MotoProcess("http://127.0.0.1:1")
        try:
            await moto.create("stack", TEMPLATE)
            assert moto._port is not None
            url = f"http://127.0.0.1:{moto._port.result()}/kept"
            async with httpx.AsyncClient(trust_env=False) as asking:
                answers = [
                    await asking.request(method, url, headers={"X-Twolane-Secret": given.encode()})
                    for method in ("GET", "PUT", "OPTIONS")
                    for given in ("", "guessed", "é")
                ]
            assert not [each for each in answers if each.content]
            return [each.status_code for each in answers]
        finally:
            await moto.stop()

    assert asyncio.run(main()) == [403] * 9
