from __future__ import annotations

import pytest

from twolane.errors import ConfigurationError
from twolane.worker.records import parse_event

from .conftest import event, record


def test_a_record_as_facts() -> None:
    arn = "arn:aws:sqs:eu-west-1:123456789012:orders.fifo"
    (found,) = parse_event(event(record("body", "m1", received=4, arn=arn, MessageGroupId="g")))
    assert (found.message_id, found.receipt_handle, found.body) == ("m1", "m1/4", "body")
    assert (found.queue_name, found.is_fifo, found.group_id) == ("orders.fifo", True, "g")
    assert found.receive_count == 4


def test_what_sqs_leaves_out() -> None:
    bare = {
        "messageId": "m1", "receiptHandle": "r", "body": "b", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:1:tasks",
    }  # fmt: skip
    (found,) = parse_event({"Records": [bare]})
    assert (found.receive_count, found.group_id, found.is_fifo) == (1, None, False)


@pytest.mark.parametrize(
    "other", [{}, {"Records": None}, {"Records": [{"eventSource": "aws:s3"}]}, {"source": "x"}]
)
def test_another_sources_event(other: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="not from SQS"):
        parse_event(other)


def test_when_a_message_was_sent() -> None:
    (found,) = parse_event(event(record("body", "m1", SentTimestamp="1767225600500")))
    assert found.sent_s == 1_767_225_600.5


def test_when_a_message_came_first() -> None:
    attributes = {"ApproximateFirstReceiveTimestamp": "1767225600500"}
    (found,) = parse_event(event(record("body", "m1", **attributes)))
    assert found.first_received_s == 1_767_225_600.5
    (bare,) = parse_event(
        {"Records": [{key: value for key, value in record("b").items() if key != "attributes"}]}
    )
    assert bare.first_received_s == float("inf")
