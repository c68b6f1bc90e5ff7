"""Limits of https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""

from __future__ import annotations

import pytest

from twolane_local.aws.sqs import actions as inputs
from twolane_local.aws.sqs.attributes import Settings
from twolane_local.aws.sqs.errors import SqsError

TEXT = {"DataType": "String", "StringValue": "v"}


def refused(**params):
    with pytest.raises(SqsError) as error:
        inputs.new_message(params, params.pop("settings", Settings()))
    return error.value.query_code


def test_a_body_may_hold_what_xml_1_0_may():
    body = "\t\n\r \ud7ff\ue000\ufffd\U00010000\U0010ffff"
    assert inputs.new_message({"MessageBody": body}, Settings()).body == body


@pytest.mark.parametrize("bad", ["\x00", "\x0b", "\x1f", "\ufffe", "\uffff", "\ud800"])
def test_a_body_may_not_hold(bad):
    assert refused(MessageBody=f"a{bad}b") == "InvalidMessageContents"


def test_the_size_counts_bytes_and_attributes():
    settings = Settings(maximum_message_size=1_024)
    inputs.new_message({"MessageBody": "ü" * 512}, settings)
    assert refused(MessageBody="ü" * 512 + "x", settings=settings) == "InvalidParameterValue"
    attributes = {"name": {"DataType": "String", "StringValue": "v" * 1_014}}
    assert (
        refused(MessageBody="x", MessageAttributes=attributes, settings=settings)
        == "InvalidParameterValue"
    )


def test_ten_attributes_and_no_more():
    ten = {f"a{number}": TEXT for number in range(10)}
    assert len(inputs.message_attributes(ten)) == 10
    assert refused(MessageBody="x", MessageAttributes={**ten, "b": TEXT}) == "InvalidParameterValue"


@pytest.mark.parametrize("name", ["a", "a.b-c_d", "A" * 256, "xaws.x", "attr.1øßä"])
def test_attribute_names(name):
    assert set(inputs.message_attributes({name: TEXT})) == {name}


@pytest.mark.parametrize(
    "name", ["", ".a", "a.", "a..b", "a b", "a§", "A" * 257, "AWS.x", "aws.x", "Amazon.x"]
)
def test_wrong_attribute_names(name):
    assert refused(MessageBody="x", MessageAttributes={name: TEXT}) == "InvalidParameterValue"


@pytest.mark.parametrize(
    "value",
    [
        {"DataType": "Number", "StringValue": "-1.5e10"},
        {"DataType": "Number.float", "StringValue": "3"},
        {"DataType": "String.any label", "StringValue": "x"},
        {"DataType": "Binary.png", "BinaryValue": "AA=="},
    ],
)
def test_attribute_values(value):
    assert inputs.message_attributes({"a": value})["a"].data_type == value["DataType"]


@pytest.mark.parametrize(
    "value",
    [
        {},
        None,
        {"DataType": "String"},
        {"DataType": "String", "StringValue": ""},
        {"DataType": "String", "StringValue": "\x00"},
        {"DataType": "Text", "StringValue": "x"},
        {"DataType": "Number", "StringValue": "one"},
        {"DataType": "Binary", "BinaryValue": ""},
        {"DataType": "Binary", "BinaryValue": "%%"},
        {"DataType": "Binary", "StringValue": "x"},
        {"DataType": "String." + "x" * 256, "StringValue": "x"},
    ],
)
def test_wrong_attribute_values(value):
    with pytest.raises(SqsError):
        inputs.message_attributes({"a": value})


@pytest.mark.parametrize(
    "given",
    [
        {"Other": TEXT},
        {"AWSTraceHeader": {"DataType": "Number", "StringValue": "1"}},
        [],
        "x",
    ],
)
def test_wrong_system_attributes(given):
    if given == []:
        assert inputs.trace_header({"MessageSystemAttributes": given}) is None
        return
    with pytest.raises(SqsError):
        inputs.trace_header({"MessageSystemAttributes": given})


FIFO = Settings(fifo=True)


@pytest.mark.parametrize("value", ["x" * 128, "a!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"])
def test_fifo_ids(value):
    params = {"MessageBody": "x", "MessageGroupId": value, "MessageDeduplicationId": value}
    new = inputs.new_message(params, FIFO)
    assert (new.group_id, new.deduplication_id) == (value, value)


@pytest.mark.parametrize("value", ["", "x" * 129, "a b", "a§", 1])
def test_wrong_fifo_ids(value):
    assert (
        refused(MessageBody="x", MessageGroupId=value, MessageDeduplicationId="d", settings=FIFO)
        == "InvalidParameterValue"
    )


def test_a_standard_queue_takes_a_group_for_fair_queues():
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html"""
    new = inputs.new_message({"MessageBody": "x", "MessageGroupId": "tenant"}, Settings())
    assert new.group_id == "tenant"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://127.0.0.1:4566/123456789012/q", "q"),
        ("https://sqs.us-east-1.amazonaws.com/123456789012/q.fifo", "q.fifo"),
        ("q", "q"),
        ("http://h/123456789012/q/", "q"),
        ("https://sqs.eu-west-1.amazonaws.com/111122223333/q", "us-east-1:111122223333:q"),
        ("http://h/queue/eu-west-1/123456789012/q", "eu-west-1:123456789012:q"),
    ],
)
def test_a_queue_is_named_by_the_last_part_of_its_url(queues, url, name):
    caller = inputs.Caller("us-east-1", "123456789012")
    assert caller.name(queues, {"QueueUrl": url}) == name


def test_numbers_come_as_text_from_the_older_protocol():
    assert inputs.integer({"n": "5"}, "n", 0, 10) == 5
    assert inputs.integer({}, "n", 0, 10) is None
    for value in ("11", -1, "x", [], "1.5"):
        with pytest.raises(SqsError):
            inputs.integer({"n": value}, "n", 0, 10)


@pytest.mark.parametrize("given", ["x", [], {}, float("inf"), float("nan")])
def test_a_delay_that_is_no_number(given):
    assert refused(MessageBody="x", DelaySeconds=given) == "InvalidParameterValue"
