"""Actions on messages, with literal requests and answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock.virtual import VirtualClock, run_virtual
from twolane_local.journal import Journal

URL = "http://127.0.0.1:4566/123456789012/q"


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
            "Message": "Value 1000 for parameter DelaySeconds is invalid. Reason: DelaySeconds "
            "must be >= 0 and <= 900.",
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


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, 1, ["x"], {}])
def test_an_attempt_id_that_sqs_refuses(call, given):
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    call("CreateQueue", QueueName="q.fifo", Attributes=attributes)
    url = f"{URL}.fifo"
    call("SendMessage", QueueUrl=url, MessageBody="x", MessageGroupId="g")
    error, _ = call("ReceiveMessage", 400, QueueUrl=url, ReceiveRequestAttemptId=given)
    assert error["__type"] == "com.amazon.coral.service#InvalidParameterValueException"
    assert "ReceiveRequestAttemptId" in error["message"]
    assert len(call("ReceiveMessage", QueueUrl=url, ReceiveRequestAttemptId="one")["Messages"]) == 1


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
