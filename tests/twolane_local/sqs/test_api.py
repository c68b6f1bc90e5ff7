"""The JSON protocol: errors and malformed requests."""

from __future__ import annotations

import asyncio
import json

import pytest

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi

URL = "http://127.0.0.1:4566/123456789012/q"


def test_an_error_has_its_name_in_both_protocols(call):
    error, response = call("SendMessage", 400, QueueUrl=URL, MessageBody="x")
    assert error == {
        "__type": "com.amazonaws.sqs#QueueDoesNotExist",
        "message": "The specified queue does not exist.",
    }
    assert (
        response.headers["x-amzn-query-error"] == "AWS.SimpleQueueService.NonExistentQueue;Sender"
    )


@pytest.mark.parametrize(
    ("action", "params", "kind"),
    [
        ("SendMessage", {"QueueUrl": URL}, "MissingRequiredParameterException"),
        ("SendMessage", {"QueueUrl": URL, "MessageBody": ""}, "MissingRequiredParameterException"),
        ("SendMessage", {"MessageBody": "x"}, "MissingRequiredParameterException"),
        ("SendMessage", {"QueueUrl": URL, "MessageBody": "a\x00"}, "InvalidMessageContents"),
        ("SendMessage", {"QueueUrl": URL, "MessageBody": "\ud800"}, "InvalidMessageContents"),
        (
            "SendMessage",
            {"QueueUrl": URL, "MessageBody": "x" * 1_048_577},
            "InvalidParameterValueException",
        ),
        (
            "SendMessage",
            {"QueueUrl": URL, "MessageBody": "x", "DelaySeconds": 901},
            "InvalidParameterValueException",
        ),
        (
            "SendMessage",
            {"QueueUrl": URL, "MessageBody": "x", "MessageDeduplicationId": "d"},
            "InvalidParameterValueException",
        ),
        ("ReceiveMessage", {"QueueUrl": URL, "MaxNumberOfMessages": 11},
         "InvalidParameterValueException"),
        ("ReceiveMessage", {"QueueUrl": URL, "MaxNumberOfMessages": 0},
         "InvalidParameterValueException"),
        ("ReceiveMessage", {"QueueUrl": URL, "WaitTimeSeconds": 21},
         "InvalidParameterValueException"),
        ("ReceiveMessage", {"QueueUrl": URL, "AttributeNames": ["Nope"]},
         "InvalidParameterValueException"),
        ("DeleteMessage", {"QueueUrl": URL, "ReceiptHandle": "x"}, "ReceiptHandleIsInvalid"),
        ("GetQueueAttributes", {"QueueUrl": URL, "AttributeNames": ["Nope"]},
         "InvalidAttributeName"),
        ("SetQueueAttributes", {"QueueUrl": URL, "Attributes": {"DelaySeconds": "901"}},
         "InvalidAttributeValue"),
        ("CreateQueue", {"QueueName": "a b"}, "InvalidParameterValueException"),
        ("CreateQueue", {"QueueName": "q", "Attributes": {"DelaySeconds": "5"}},
         "QueueNameExists"),
        ("Nope", {}, "UnknownOperationException"),
    ],
)  # fmt: skip
def test_what_sqs_refuses_is_refused(call, queues, action, params, kind):
    queues.create("q")
    error, _ = call(action, 400, **params)
    assert error["__type"].partition("#")[2] == kind


def test_a_body_that_is_no_json_object_is_refused(queues):
    for body in (b"[", b"[]", b"[" * 200_000, b"\xff"):
        request = AwsRequest("POST", "/", "", {"x-amz-target": "AmazonSQS.ListQueues"}, body)
        response = asyncio.run(SqsApi(queues)(request))
        assert response.status == 400
        assert (
            json.loads(response.body)["__type"] == "com.amazon.coral.service#SerializationException"
        )
