from __future__ import annotations

from twolane_local.model.message import (
    SENDER_ID,
    AttributeValue,
    Message,
    Received,
    md5_of,
    md5_of_attributes,
    message_size,
)


def test_the_digest_of_a_body():
    assert md5_of("héllo\n".encode()) == "1082e4bdaee22cfa4057c4f6a5e4c3da"


def test_the_digest_of_attributes():
    """The expected digest is moto's, an independent implementation of the same page."""
    attributes = {
        "z": AttributeValue("Binary.png", binary=b"\x00\xff"),
        "a": AttributeValue("String", string="grüße"),
        "b": AttributeValue("Number.int", string="42"),
    }
    assert md5_of_attributes(attributes) == "f6f1cc01f64ea422cb25d532e7a59e55"
    assert md5_of_attributes({}) is None


def test_a_size_counts_names_types_and_values_in_bytes():
    attributes = {
        "ä": AttributeValue("String", string="ö"),
        "b": AttributeValue("Binary", binary=b"123"),
    }
    assert message_size("ü", attributes) == 2 + (2 + 6 + 2) + (1 + 6 + 3)


def test_system_attributes_are_strings_in_milliseconds_and_leave_out_what_is_not_there():
    message = Message("id", "body", 1_767_225_600.1234, "md5")
    assert Received(message, "handle", 3, 1_767_225_601.5).system_attributes() == {
        "ApproximateReceiveCount": "3",
        "SentTimestamp": "1767225600123",
        "SenderId": SENDER_ID,
        "ApproximateFirstReceiveTimestamp": "1767225601500",
    }


def test_a_fifo_message_and_a_dead_letter_show_theirs():
    message = Message(
        "id", "body", 1.0, "md5", trace_header="Root=1", group_id="g", deduplication_id="d",
        sequence="00000000000000000001", dead_letter_source="arn:aws:sqs:us-east-1:1:q",
    )  # fmt: skip
    assert Received(message, "handle", 1, 2.0).system_attributes() == {
        "ApproximateReceiveCount": "1",
        "AWSTraceHeader": "Root=1",
        "SentTimestamp": "1000",
        "SequenceNumber": "00000000000000000001",
        "MessageGroupId": "g",
        "SenderId": SENDER_ID,
        "MessageDeduplicationId": "d",
        "ApproximateFirstReceiveTimestamp": "2000",
        "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:1:q",
    }
