"""Mappings that boto3 makes and changes, beside those of a template, in a whole emulator."""

from __future__ import annotations

import asyncio
import io
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from twolane_local.model import Options

from ..running import run  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.emulator import Emulator

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Runtime: python3.13
      Handler: mapped.handler
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            BatchSize: 7
            FilterCriteria: {Filters: [{Pattern: '{ "body": [{"prefix": "w"}] }'}]}
  Tenants:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Runtime: python3.13
      Handler: mapped.tenant
      TenancyConfig: {TenantIsolationMode: PER_TENANT}
  Tasks: {Type: AWS::SQS::Queue}
Outputs:
  Id: {Value: !Ref WorkerQueue}
  Arn: {Value: !GetAtt WorkerQueue.EventSourceMappingArn}
"""
CODE = """
import os
served = set()

def handler(event, context):
    for record in event["Records"]:
        print(record["eventSourceARN"].rpartition(":")[2], record["body"])

def tenant(event, context):
    served.add(context.tenant_id)
    return {"tenant": context.tenant_id, "served": len(served), "pid": os.getpid()}
"""


@pytest.fixture
def template(tmp_path: Path, own_environ: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mapped.py").write_text(CODE)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path / "template.yaml"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def clients(emulator: Emulator) -> tuple[Any, Any]:
    lambda_, sqs = (
        boto3.client(
            service, endpoint_url=emulator.addresses.aws, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )
        for service in ("lambda", "sqs")
    )  # fmt: skip
    return lambda_, sqs


def printed(emulator: Emulator, line: str) -> Callable[[], bool]:
    return lambda: any(line in str(event.data.get("line")) for event in emulator.journal)


def test_a_mapping_of_the_api_runs_as_the_templates_and_both_are_kept(template: Path) -> None:
    options = Options(template, port=0, aws_port=0, http=False, persist=template.parent / "kept")
    made = []

    async def change(emulator: Emulator) -> None:
        lambda_, sqs = clients(emulator)
        (declared,) = (await asyncio.to_thread(lambda_.list_event_source_mappings))[
            "EventSourceMappings"
        ]
        assert (declared["State"], declared["BatchSize"]) == ("Enabled", 7)
        assert emulator.stack.outputs == {
            "Id": declared["UUID"], "Arn": declared["EventSourceMappingArn"],
        }  # fmt: skip
        assert declared["FilterCriteria"] == {
            "Filters": [{"Pattern": '{ "body": [{"prefix": "w"}] }'}]
        }

        def calls() -> None:
            url = sqs.create_queue(QueueName="made")["QueueUrl"]
            mapping = lambda_.create_event_source_mapping(
                EventSourceArn="arn:aws:sqs:us-east-1:123456789012:made", FunctionName="Worker"
            )
            made.append(mapping["UUID"])
            sqs.send_message(QueueUrl=url, MessageBody="by the API")
            lambda_.update_event_source_mapping(
                UUID=declared["UUID"], BatchSize=8, FilterCriteria={}
            )
            tasks = sqs.get_queue_url(QueueName="local-Tasks")["QueueUrl"]
            sqs.send_message(QueueUrl=tasks, MessageBody="by the template")
            with pytest.raises(ClientError, match="not supported for functions enabled with ten"):
                lambda_.create_event_source_mapping(
                    EventSourceArn="arn:aws:sqs:us-east-1:123456789012:made",
                    FunctionName="Tenants",
                )

        await asyncio.to_thread(calls)
        await until(printed(emulator, "made by the API"))
        await until(printed(emulator, "local-Tasks by the template"))

    async def look(emulator: Emulator) -> None:
        lambda_, sqs = clients(emulator)
        found = (await asyncio.to_thread(lambda_.list_event_source_mappings))["EventSourceMappings"]
        assert sorted((each["BatchSize"], each["State"]) for each in found) == [
            (8, "Enabled"), (10, "Enabled"),
        ]  # fmt: skip
        assert made[0] in {each["UUID"] for each in found}
        url = f"{emulator.addresses.aws}/123456789012/made"
        await asyncio.to_thread(sqs.send_message, QueueUrl=url, MessageBody="once more")
        await until(printed(emulator, "made once more"))

    run(options, change)
    run(options, look)


def test_a_function_that_isolates_tenants(template: Path) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-invoke.html"""

    async def script(emulator: Emulator) -> None:
        lambda_, _ = clients(emulator)

        def invoke(**params: Any) -> Any:
            return lambda_.invoke(FunctionName="Tenants", Payload=b"{}", **params)

        def calls() -> list[bytes]:
            with pytest.raises(ClientError) as refused:
                invoke()
            assert refused.value.response["Error"] == {
                "Code": "InvalidParameterValueException",
                "Message": "The invoked function is enabled with tenancy configuration. Add a "
                "valid tenant ID in your request and try again.",
            }
            with pytest.raises(ClientError, match="is not enabled with tenancy configuration"):
                lambda_.invoke(FunctionName="Worker", TenantId="blue")
            with pytest.raises(ClientError, match="at 'tenantId' failed to satisfy"):
                invoke(TenantId="blue,green")
            assert invoke(TenantId="late", InvocationType="Event")["StatusCode"] == 202
            return [invoke(TenantId=each)["Payload"].read() for each in ("blue", "a b@c", "blue")]

        blue, other, again = await asyncio.to_thread(calls)
        assert blue.startswith(b'{"tenant": "blue", "served": 1')
        assert other.startswith(b'{"tenant": "a b@c", "served": 1')
        assert again == blue
        await until(
            lambda: sum(event.kind == "invocation.ended" for event in emulator.journal) >= 4
        )

    run(Options(template, port=0, aws_port=0, http=False), script)


def test_a_function_of_the_api_that_isolates_tenants(template: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("mapped.py", CODE)
    given: Any = {
        "Runtime": "python3.13", "Role": "arn:aws:iam::123456789012:role/r",
        "Handler": "mapped.tenant", "Code": {"ZipFile": archive.getvalue()},
        "TenancyConfig": {"TenantIsolationMode": "PER_TENANT"},
    }  # fmt: skip
    without = "is not supported for functions enabled with tenancy configuration"

    async def script(emulator: Emulator) -> None:
        lambda_, _ = clients(emulator)

        def calls() -> None:
            with pytest.raises(ClientError, match=f"SnapStart {without}"):
                lambda_.create_function(
                    FunctionName="made", SnapStart={"ApplyOn": "PublishedVersions"}, **given
                )
            lambda_.create_function(FunctionName="made", **given)
            lambda_.get_waiter("function_active_v2").wait(FunctionName="made")
            shown = lambda_.get_function_configuration(FunctionName="made")
            assert shown["TenancyConfig"] == given["TenancyConfig"]
            with pytest.raises(ClientError, match=f"Function URL {without}"):
                lambda_.create_function_url_config(FunctionName="made", AuthType="NONE")
            with pytest.raises(ClientError, match="Add a valid tenant ID"):
                lambda_.invoke(FunctionName="made", InvocationType="Event")
            answer = lambda_.invoke(FunctionName="made", TenantId="blue")
            assert answer["Payload"].read().startswith(b'{"tenant": "blue", "served": 1')

        await asyncio.to_thread(calls)

    run(Options(template, port=0, aws_port=0, http=False), script)
