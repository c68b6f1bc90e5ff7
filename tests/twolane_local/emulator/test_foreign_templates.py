"""Templates of other shapes than ours, with handlers that know nothing of twolane."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from tests.twolane_local import running

from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from twolane_local.emulator import Emulator

HTTP_AND_TABLE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Runtime: python3.12
    Timeout: 20
    CodeUri: notes/
    Environment: {Variables: {NOTES: !Ref Notes}}
Resources:
  Notes:
    Type: AWS::Serverless::SimpleTable
    Properties: {PrimaryKey: {Name: id, Type: String}}
  Write:
    Type: AWS::Serverless::Function
    Properties:
      Handler: handlers.write
      Policies: [{DynamoDBCrudPolicy: {TableName: !Ref Notes}}]
      Events: {Put: {Type: HttpApi, Properties: {Path: "/notes/{id}", Method: put}}}
  Read:
    Type: AWS::Serverless::Function
    Properties:
      Handler: handlers.read
      Policies: [{DynamoDBReadPolicy: {TableName: !Ref Notes}}]
      Events: {Get: {Type: HttpApi, Properties: {Path: "/notes/{id}", Method: get}}}
Outputs:
  Api: {Value: !Sub "https://${ServerlessHttpApi}.execute-api.${AWS::Region}.amazonaws.com"}
"""
NOTES = """
import json, os
import boto3
table = boto3.resource("dynamodb").Table(os.environ["NOTES"])

def write(event, context):
    table.put_item(Item={"id": event["pathParameters"]["id"], "text": event["body"]})
    return {"statusCode": 204}

def read(event, context):
    item = table.get_item(Key={"id": event["pathParameters"]["id"]}).get("Item")
    if item is None:
        return {"statusCode": 404, "body": "no such note"}
    return item
"""
FIFO = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Retries: {Type: Number, Default: 2}
Resources:
  Orders:
    Type: AWS::SQS::Queue
    Properties:
      FifoQueue: true
      ContentBasedDeduplication: true
      VisibilityTimeout: 4
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Failed.Arn, maxReceiveCount: !Ref Retries}
  Failed: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true}}
  Topic: {Type: AWS::SNS::Topic, Properties: {FifoTopic: true, ContentBasedDeduplication: true}}
  Fan:
    Type: AWS::SNS::Subscription
    Properties:
      Protocol: sqs
      RawMessageDelivery: true
      TopicArn: !Ref Topic
      Endpoint: !GetAtt Orders.Arn
  Process:
    Type: AWS::Serverless::Function
    Properties:
      Handler: pipeline.process
      CodeUri: code
      Runtime: python3.13
      Timeout: 4
      Environment: {Variables: {OUT: !GetAtt Done.QueueName}}
      Events:
        Orders:
          Type: SQS
          Properties:
            Queue: !GetAtt Orders.Arn
            BatchSize: 10
            FunctionResponseTypes: [ReportBatchItemFailures]
  Done: {Type: AWS::SQS::Queue}
"""
PIPELINE = """
import os
import boto3
sqs = boto3.client("sqs")

def process(event, context):
    failures = []
    url = sqs.get_queue_url(QueueName=os.environ["OUT"])["QueueUrl"]
    for record in event["Records"]:
        if failures or record["body"].startswith("bad"):
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        sqs.send_message(QueueUrl=url, MessageBody=record["body"])
    return {"batchItemFailures": failures}
"""
NOTIFICATIONS = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.11, CodeUri: code, Timeout: 10}}
Resources:
  Uploads: {Type: AWS::S3::Bucket}
  Thumbnails: {Type: AWS::S3::Bucket}
  News: {Type: AWS::SNS::Topic}
  Shrink:
    Type: AWS::Serverless::Function
    Properties:
      Handler: media.shrink
      Environment: {Variables: {TO: !Ref Thumbnails, NEWS: !Ref News}}
      Events:
        Uploaded:
          Type: S3
          Properties:
            Bucket: !Ref Uploads
            Events: s3:ObjectCreated:*
            Filter: {S3Key: {Rules: [{Name: suffix, Value: .txt}]}}
  Told:
    Type: AWS::Serverless::Function
    Properties:
      Handler: media.told
      Environment: {Variables: {TO: !Ref Thumbnails}}
      Events:
        News: {Type: SNS, Properties: {Topic: !Ref News}}
        Orders:
          Type: EventBridgeRule
          Properties: {Pattern: {source: [shop], detail: {total: [{numeric: [">", 10]}]}}}
"""
MEDIA = """
import json, os
from urllib.parse import unquote_plus
import boto3
s3, sns = boto3.client("s3"), boto3.client("sns")

def shrink(event, context):
    for record in event["Records"]:
        key = unquote_plus(record["s3"]["object"]["key"])
        body = s3.get_object(Bucket=record["s3"]["bucket"]["name"], Key=key)["Body"].read()
        s3.put_object(Bucket=os.environ["TO"], Key=key, Body=body[:3])
        sns.publish(TopicArn=os.environ["NEWS"], Message=key, Subject="new",
                    MessageAttributes={"kind": {"DataType": "String", "StringValue": "text"}})

def told(event, context):
    name = "told" if "Records" in event else "order"
    s3.put_object(Bucket=os.environ["TO"], Key=name, Body=json.dumps(event).encode())
"""


@pytest.fixture(autouse=True)
def own_process(own_environ: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The emulator changes the process: put back what it changed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(
    folder: Path,
    text: str,
    module: str,
    code: str,
    script: Callable[[Emulator], Awaitable[None]],
) -> None:
    (folder / "template.yaml").write_text(text)
    file = folder / module
    file.parent.mkdir()
    file.write_text(code)

    async def checked(emulator: Emulator) -> None:
        assert emulator.notes == []
        await script(emulator)

    running.run(Options(folder / "template.yaml", port=0, aws_port=0), checked)


def client(emulator: Emulator, service: str) -> Any:
    return boto3.client(service, endpoint_url=emulator.addresses.aws)


@pytest.mark.slow
def test_an_http_api_with_a_table(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        async with httpx.AsyncClient(base_url=emulator.stack.outputs["Api"], timeout=20) as http:
            assert (await http.get("/notes/1")).status_code == 404
            written = await http.put(
                "/notes/1", content="hello", headers={"content-type": "text/plain"}
            )
            assert written.status_code == 204
            assert (await http.get("/notes/1")).json() == {"id": "1", "text": "hello"}
            assert (await http.post("/notes/1")).status_code == 404

    run(tmp_path, HTTP_AND_TABLE, "notes/handlers.py", NOTES, script)


@pytest.mark.slow
def test_a_pipeline_with_a_fifo_queue_behind_a_topic(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        topic = "arn:aws:sns:us-east-1:123456789012:local-Topic.fifo"

        def publish() -> None:
            sns = client(emulator, "sns")
            for body in ("a1", "a2", "a2", "bad", "a3"):
                sns.publish(TopicArn=topic, Message=body, MessageGroupId="g")

        await asyncio.to_thread(publish)
        async with asyncio.timeout(30):
            while (
                emulator.queues.refreshed("local-Failed.fifo").count("visible") < 1
                or emulator.queues.refreshed("local-Done").count("visible") < 3
            ):
                await asyncio.sleep(0.05)
        done = [item.message.body for item in emulator.queues.receive("local-Done", 10)]
        (failed,) = emulator.queues.receive("local-Failed.fifo", 10)
        assert sorted(done) == ["a1", "a2", "a3"]
        assert failed.message.body == "bad"

    run(tmp_path, FIFO, "code/pipeline.py", PIPELINE, script)


@pytest.mark.slow
def test_notifications_from_a_bucket_a_topic_and_a_bus(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        s3 = client(emulator, "s3")

        async def wait_for(key: str) -> bytes:
            async with asyncio.timeout(20):
                while True:
                    try:
                        found = await asyncio.to_thread(
                            s3.get_object, Bucket="local-thumbnails", Key=key
                        )
                    except s3.exceptions.NoSuchKey:
                        await asyncio.sleep(0.05)
                    else:
                        return bytes(found["Body"].read())

        def put() -> None:
            s3.put_object(Bucket="local-uploads", Key="a b/c.txt", Body=b"abcdef")
            s3.put_object(Bucket="local-uploads", Key="ignored.png", Body=b"x")
            entry = {"Source": "shop", "DetailType": "Order"}
            bus = client(emulator, "events")
            bus.put_events(Entries=[{**entry, "Detail": '{"total": 5}'}])
            bus.put_events(Entries=[{**entry, "Detail": '{"total": 50}'}])

        await asyncio.to_thread(put)
        assert await wait_for("a b/c.txt") == b"abc"
        (record,) = json.loads(await wait_for("told"))["Records"]
        assert (record["EventSource"], record["Sns"]["Message"]) == ("aws:sns", "a b/c.txt")
        assert record["Sns"]["Subject"] == "new"
        assert record["Sns"]["MessageAttributes"] == {"kind": {"Type": "String", "Value": "text"}}
        order = json.loads(await wait_for("order"))
        assert (order["source"], order["detail"]) == ("shop", {"total": 50})
        assert order["detail-type"] == "Order"

    run(tmp_path, NOTIFICATIONS, "code/media.py", MEDIA, script)
