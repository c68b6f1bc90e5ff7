"""The worker's own calls to SQS, against moto as a server."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from twolane.publish.errors import EnqueueError
from twolane.worker.aws import Sqs, queue_url

if TYPE_CHECKING:
    from collections.abc import Iterator

ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"


@pytest.fixture(params=["light", "boto3"])
def environ(
    request: pytest.FixtureRequest, aws_server: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in {**keys, "AWS_ENDPOINT_URL": aws_server}.items():
        monkeypatch.setenv(name, value)
    # Without keys in the environment that it is given, the worker goes through boto3.
    return {"AWS_ENDPOINT_URL": aws_server, **(keys if request.param == "light" else {})}


@pytest.fixture
def sqs(environ: dict[str, str], aws_server: str) -> Iterator[Any]:
    import boto3

    client = boto3.client("sqs", region_name="us-east-1", endpoint_url=aws_server)
    url = client.create_queue(QueueName="tasks")["QueueUrl"]
    yield client
    client.delete_queue(QueueUrl=url)


def test_send(environ: dict[str, str], sqs: Any) -> None:
    attributes = {
        "text": {"DataType": "String", "StringValue": "ü"},
        "raw": {"DataType": "Binary", "BinaryValue": base64.b64encode(b"\x00\x01").decode()},
    }
    Sqs(environ).send(ARN, "body", delay_s=0, attributes=attributes)
    url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    assert message["Body"] == "body"
    assert message["MessageAttributes"]["text"]["StringValue"] == "ü"
    assert message["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00\x01"


def test_a_send_that_fails_is_raised(environ: dict[str, str], sqs: Any) -> None:
    with pytest.raises(EnqueueError, match="SendMessage"):
        Sqs(environ).send(ARN + "-missing", "body", delay_s=0, attributes={})


def test_change_visibility(
    environ: dict[str, str], sqs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    receipts = []
    while len(receipts) < 12:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        receipts += [message["ReceiptHandle"] for message in found]
    Sqs(environ).change_visibility(ARN, [(receipt, 0) for receipt in receipts] + [("gone", 0)])
    assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 10
    assert "delivered again once the queue's own visibility timeout has passed" in caplog.text


@pytest.mark.parametrize(
    ("arn", "environ", "url"),
    [
        (ARN, {}, "https://sqs.us-east-1.amazonaws.com/123456789012/tasks"),
        (
            "arn:aws-cn:sqs:cn-north-1:1:q.fifo",
            {},
            "https://sqs.cn-north-1.amazonaws.com.cn/1/q.fifo",
        ),
        (ARN, {"AWS_ENDPOINT_URL": "http://l:1/"}, "http://l:1/123456789012/tasks"),
        (
            ARN,
            {"AWS_ENDPOINT_URL": "http://l:1", "AWS_ENDPOINT_URL_SQS": "http://s:2"},
            "http://s:2/123456789012/tasks",
        ),
    ],
)
def test_addresses(arn: str, environ: dict[str, str], url: str) -> None:
    assert queue_url(arn, environ) == url
