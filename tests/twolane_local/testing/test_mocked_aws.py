"""AWS in this process, and no other."""

from __future__ import annotations

import os
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from twolane_local.testing.mocked_aws import RealAwsError
from twolane_local.testing.project import of_handlers, of_template, queue_url
from twolane_local.testing.stack import Twolane

from .conftest import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEMPLATE = (
    TABLE
    + """\
  Bucket: {Type: AWS::S3::Bucket}
  Queue: {Type: AWS::SQS::Queue}
  Group: {Type: AWS::Scheduler::ScheduleGroup}
"""
)


@pytest.fixture
def stack(make: Callable[..., Twolane], tmp_path: Path) -> Twolane:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return make(of_template(tmp_path / "template.yaml", {}))


def test_what_the_template_leaves_to_moto_is_there(stack: Twolane) -> None:
    table = boto3.resource("dynamodb").Table("local-Table")
    table.put_item(Item={"id": "1"})
    assert table.scan()["Items"] == [{"id": "1"}]
    buckets = boto3.client("s3").list_buckets()["Buckets"]
    assert [bucket["Name"] for bucket in buckets] == ["local-bucket"]


def test_services_that_tests_of_one_seed_import_are_two(tmp_path: Path) -> None:
    """moto takes a service that it meets for one that it knows, and never clears it, by its id."""
    from moto.core.base_backend import BackendDict

    (tmp_path / "template.yaml").write_text(TEMPLATE)
    ids = []
    for _ in range(2):
        with Twolane(of_template(tmp_path / "template.yaml", {}), seed=7):
            service: BackendDict[Any] = BackendDict(object, "any")
            ids += [service._id, service["123456789012"]._id]
    assert len(set(ids)) == 4


def test_queues_are_the_emulator_s_alone(stack: Twolane) -> None:
    from moto.sqs.models import sqs_backends

    boto3.client("sqs").send_message(QueueUrl=queue_url("local-Queue"), MessageBody="hello")
    assert [message.body for message in stack.queue("Queue").messages] == ["hello"]
    assert not sqs_backends["123456789012"]["us-east-1"].queues


def test_a_one_time_schedule_sends_when_it_is_due(stack: Twolane) -> None:
    boto3.client("scheduler").create_schedule(
        Name="once",
        GroupName="local-Group",
        ScheduleExpression="at(2026-01-01T02:00:00)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": stack.queues.arn("local-Queue"),
            "RoleArn": "arn:aws:iam::123456789012:role/any",
            "Input": "due",
        },
    )
    stack.clock.advance(7199)
    assert len(stack.queue("Queue")) == 0
    stack.clock.advance(1)
    assert [message.body for message in stack.queue("Queue").messages] == ["due"]


def test_a_client_that_was_made_before_the_stack(
    make: Callable[..., Twolane], own_environ: None
) -> None:
    os.environ.update(AWS_ACCESS_KEY_ID="real", AWS_SECRET_ACCESS_KEY="real")
    client = boto3.client("sqs", region_name="us-east-1")
    for handler in list(client.meta.events._emitter._lookup_cache):  # as if moto was not there
        client.meta.events._emitter._lookup_cache.pop(handler)
    client.meta.events._emitter._handlers._root["children"].pop("before-send", None)
    stack = make(of_handlers(worker=lambda event, context: None))
    client.send_message(QueueUrl=queue_url("tasks"), MessageBody="early")
    assert [message.body for message in stack.queue("tasks").messages] == ["early"]


def test_real_aws_is_refused(stack: Twolane) -> None:
    with pytest.raises(RealAwsError, match="is real AWS"):
        socket.create_connection(("sqs.us-east-1.amazonaws.com", 443))
    with pytest.raises(RealAwsError):
        urllib.request.urlopen("http://169.254.169.254/latest/meta-data")


def test_credentials_are_dummies(
    make: Callable[..., Twolane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    stack = make(of_handlers(worker=lambda event, context: None))
    assert os.environ["AWS_ACCESS_KEY_ID"] == "local"
    assert "AWS_PROFILE" not in os.environ
    assert boto3.Session().get_credentials().access_key == "local"
    stack.close()
    assert os.environ["AWS_PROFILE"] == "production"
