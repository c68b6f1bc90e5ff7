"""Literal messages in, literal records out."""

from __future__ import annotations

from twolane_local.aws.event_source_mapping import record_of
from twolane_local.model.message import AttributeValue, Message, Received

ARN = "arn:aws:sqs:us-east-2:123456789012:my-queue"


def test_the_record_that_aws_documents():
    """The example of https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    message = Message(
        id="059f36b4-87a3-44ab-83d2-661975830a7d",
        body="Test message.",
        sent_at=1545082649.183,
        md5_of_body="e4e68fb7bd0e697a0ae8f1bb342846b3",
        attributes={"myAttribute": AttributeValue("String", string="myValue")},
        md5_of_attributes="a00b0000000000000000000000000000",
    )
    received = Received(message, "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...", 1, 1545082649.185)
    assert record_of(received, ARN) == {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": "Test message.",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
        },
        "messageAttributes": {
            "myAttribute": {
                "stringValue": "myValue",
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            }
        },
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "md5OfMessageAttributes": "a00b0000000000000000000000000000",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
        "awsRegion": "us-east-2",
    }


def test_the_fifo_record_that_aws_documents():
    """The second example of https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    message = Message(
        id="11d6ee51-4cc7-4302-9e22-7cd8afdaadf5",
        body="Test message.",
        sent_at=1573251510.774,
        md5_of_body="e4e68fb7bd0e697a0ae8f1bb342846b3",
        group_id="1",
        deduplication_id="1",
        sequence="18849496460467696128",
        sender_id="AIDAIO23YVJENQZJOL4VO",
    )
    arn = "arn:aws:sqs:us-east-2:123456789012:fifo.fifo"
    assert record_of(
        Received(message, "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...", 1, 1573251510.774), arn
    ) == {
        "messageId": "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5",
        "receiptHandle": "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...",
        "body": "Test message.",
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1573251510774",
            "SequenceNumber": "18849496460467696128",
            "MessageGroupId": "1",
            "SenderId": "AIDAIO23YVJENQZJOL4VO",
            "MessageDeduplicationId": "1",
            "ApproximateFirstReceiveTimestamp": "1573251510774",
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": "us-east-2",
    }


def test_a_binary_attribute_is_base64():
    message = Message(
        "id", "b", 1.0, "m", attributes={"b": AttributeValue("Binary.x", None, b"\0")}
    )
    assert record_of(Received(message, "h", 1, 1.0), ARN)["messageAttributes"] == {
        "b": {
            "binaryValue": "AA==",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "Binary.x",
        }
    }
