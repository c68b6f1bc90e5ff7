"""The JSON protocol, with literal requests and answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from twolane_local.journal import Journal
from twolane_local.queues.api import SqsApi
from twolane_local.queues.core import NewMessage, QueueService
from twolane_local.virtual_clock import VirtualClock, run_virtual
from twolane_local.wire import AwsRequest

URL = "http://127.0.0.1:4566/123456789012/q"


@pytest.fixture
def call(queues):
    api = SqsApi(queues)

    def call(action, status=200, **params):
        request = AwsRequest(
            "POST", "/", "",
            {"x-amz-target": f"AmazonSQS.{action}", "host": "127.0.0.1:4566"},
            json.dumps(params).encode(), "sqs",
        )  # fmt: skip
        response = asyncio.run(api(request))
        assert response.status == status, response.body
        assert response.headers["content-type"] == "application/x-amz-json-1.0"
        return json.loads(response.body) if status == 200 else (json.loads(response.body), response)

    return call


def test_a_message_there_and_back(call):
    assert call("CreateQueue", QueueName="q") == {"QueueUrl": URL}
    sent = call(
        "SendMessage",
        QueueUrl=URL,
        MessageBody="grüße",
        MessageAttributes={"n": {"DataType": "Number", "StringValue": "7"}},
        MessageSystemAttributes={
            "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988"}
        },
    )
    message_id = sent.pop("MessageId")
    assert sent == {
        "MD5OfMessageBody": "fee40dc24d0ad6a90c608052aa4e9e66",
        "MD5OfMessageAttributes": "3a734e6fc44468814b287b503a526bff",
        "MD5OfMessageSystemAttributes": "1093703a9379955b75098a87e549ba88",
    }
    received = call(
        "ReceiveMessage",
        QueueUrl=URL,
        MessageSystemAttributeNames=["All"],
        MessageAttributeNames=["All"],
    )["Messages"]
    handle = received[0].pop("ReceiptHandle")
    assert received == [
        {
            "MessageId": message_id,
            "MD5OfBody": "fee40dc24d0ad6a90c608052aa4e9e66",
            "Body": "grüße",
            "Attributes": {
                "ApproximateReceiveCount": "1",
                "AWSTraceHeader": "Root=1-5759e988",
                "SentTimestamp": "1767225600000",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1767225600000",
            },
            "MD5OfMessageAttributes": "3a734e6fc44468814b287b503a526bff",
            "MessageAttributes": {"n": {"StringValue": "7", "DataType": "Number"}},
        }
    ]
    assert call("DeleteMessage", QueueUrl=URL, ReceiptHandle=handle) == {}
    assert call("ReceiveMessage", QueueUrl=URL) == {}


def test_attributes_are_shown_as_asked_for(call, queues):
    queues.create("q")
    call(
        "SendMessage", QueueUrl=URL, MessageBody="x",
        MessageAttributes={
            name: {"DataType": "String", "StringValue": name} for name in ("a.b", "a.c", "d")
        },
    )  # fmt: skip

    def shown(*names, system=()):
        message = call(
            "ReceiveMessage", QueueUrl=URL, VisibilityTimeout=0, MessageAttributeNames=list(names),
            AttributeNames=list(system),
        )["Messages"][0]  # fmt: skip
        return sorted(message.get("MessageAttributes", {})), sorted(message.get("Attributes", {}))

    assert shown() == ([], [])
    assert shown("d", "nowhere") == (["d"], [])
    assert shown("a.*") == (["a.b", "a.c"], [])
    assert shown(".*") == shown("All") == (["a.b", "a.c", "d"], [])
    assert shown(system=["SentTimestamp", "SequenceNumber"]) == ([], ["SentTimestamp"])


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
    for body in (b"[", b"[]"):
        request = AwsRequest("POST", "/", "", {"x-amz-target": "AmazonSQS.ListQueues"}, body)
        response = asyncio.run(SqsApi(queues)(request))
        assert response.status == 400
        assert json.loads(response.body)["__type"] == "com.amazonaws.sqs#SerializationException"


def test_a_batch_reports_each_entry(call, queues):
    queues.create("q")
    answer = call(
        "SendMessageBatch",
        QueueUrl=URL,
        Entries=[
            {"Id": "good", "MessageBody": "x"},
            {"Id": "bad", "MessageBody": "y", "DelaySeconds": 1000},
        ],
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert answer["Failed"] == [
        {
            "Id": "bad",
            "SenderFault": True,
            "Code": "InvalidParameterValue",
            "Message": "Value 1000 for parameter DelaySeconds is invalid. Reason: Must be between "
            "0 and 900, if provided.",
        }
    ]
    received = call("ReceiveMessage", QueueUrl=URL)["Messages"][0]["ReceiptHandle"]
    entries = [{"Id": "a", "ReceiptHandle": received}, {"Id": "b", "ReceiptHandle": "nonsense"}]
    changed = call(
        "ChangeMessageVisibilityBatch",
        QueueUrl=URL,
        Entries=[{**entry, "VisibilityTimeout": 60} for entry in entries],
    )
    deleted = call("DeleteMessageBatch", QueueUrl=URL, Entries=entries)
    for answer in (changed, deleted):
        assert answer["Successful"] == [{"Id": "a"}]
        assert [entry["Code"] for entry in answer["Failed"]] == ["ReceiptHandleIsInvalid"]


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(i), "MessageBody": "x"} for i in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "InvalidBatchEntryId"),
        ([{"Id": str(i), "MessageBody": "x" * 524_289} for i in range(2)], "BatchRequestTooLong"),
    ],
)
def test_a_batch_that_sqs_refuses_whole(call, queues, entries, kind):
    queues.create("q")
    error, _ = call("SendMessageBatch", 400, QueueUrl=URL, Entries=entries)
    assert error["__type"] == f"com.amazonaws.sqs#{kind}"
    assert len(queues.get("q")) == 0


def test_fifo_needs_a_group_and_a_deduplication_id(call):
    call("CreateQueue", QueueName="q.fifo", Attributes={"FifoQueue": "true"})
    url = f"{URL}.fifo"
    error, _ = call("SendMessage", 400, QueueUrl=url, MessageBody="x", MessageDeduplicationId="d")
    assert error["__type"].endswith("MissingRequiredParameterException")
    error, _ = call("SendMessage", 400, QueueUrl=url, MessageBody="x", MessageGroupId="g")
    assert "ContentBasedDeduplication" in error["message"]
    error, _ = call(
        "SendMessage", 400, QueueUrl=url, MessageBody="x", MessageGroupId="g",
        MessageDeduplicationId="d", DelaySeconds=5,
    )  # fmt: skip
    assert "not valid for this queue type" in error["message"]
    sent = call(
        "SendMessage", QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="d"
    )
    assert sent["SequenceNumber"] == "18850000000000000001"


def test_queue_attributes(call):
    call("CreateQueue", QueueName="q", Attributes={"VisibilityTimeout": "45"})
    assert call("GetQueueAttributes", QueueUrl=URL) == {}
    assert call("GetQueueAttributes", QueueUrl=URL, AttributeNames=["All"]) == {
        "Attributes": {
            "QueueArn": "arn:aws:sqs:us-east-1:123456789012:q",
            "ApproximateNumberOfMessages": "0",
            "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
            "CreatedTimestamp": "1767225600",
            "LastModifiedTimestamp": "1767225600",
            "DelaySeconds": "0",
            "MaximumMessageSize": "1048576",
            "MessageRetentionPeriod": "345600",
            "ReceiveMessageWaitTimeSeconds": "0",
            "VisibilityTimeout": "45",
            "SqsManagedSseEnabled": "true",
        }
    }
    call("SetQueueAttributes", QueueUrl=URL, Attributes={"VisibilityTimeout": "5"})
    assert call("GetQueueAttributes", QueueUrl=URL, AttributeNames=["VisibilityTimeout"]) == {
        "Attributes": {"VisibilityTimeout": "5"}
    }


def test_a_long_poll_waits_on_the_clock():
    async def main(clock: VirtualClock) -> None:
        queues = QueueService(clock, Journal(clock))
        queues.create("q", {"ReceiveMessageWaitTimeSeconds": "20"})
        api, start = SqsApi(queues), clock.time()

        def receive(**params):
            headers = {"x-amz-target": "AmazonSQS.ReceiveMessage"}
            body = json.dumps({"QueueUrl": URL, **params}).encode()
            return api(AwsRequest("POST", "/", "", headers, body))

        assert (await receive()).body == b"{}"
        assert clock.time() - start == 20
        assert (await receive(WaitTimeSeconds=0)).body == b"{}"
        assert clock.time() - start == 20
        waiting = asyncio.ensure_future(receive(WaitTimeSeconds=10))
        await clock.sleep(4)
        queues.send("q", NewMessage("x"))
        assert json.loads((await waiting).body)["Messages"][0]["Body"] == "x"
        assert clock.time() - start == 24
        waiting = asyncio.ensure_future(receive(WaitTimeSeconds=10))
        await clock.sleep(1)
        queues.delete_queue("q")
        assert (await waiting).status == 400, "a queue that goes ends the poll"

    run_virtual(main)
