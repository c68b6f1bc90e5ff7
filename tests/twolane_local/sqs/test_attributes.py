"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html"""

from __future__ import annotations

import json

import pytest

from twolane_local.aws.sqs.attributes import (
    Settings,
    check,
    check_name,
    defaults,
    permits,
    settings_of,
)
from twolane_local.aws.sqs.errors import SqsError

ARN = "arn:aws:sqs:us-east-1:123456789012:dead"


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("DelaySeconds", 0, 900),
        ("MaximumMessageSize", 1_024, 1_048_576),
        ("MessageRetentionPeriod", 60, 1_209_600),
        ("ReceiveMessageWaitTimeSeconds", 0, 20),
        ("VisibilityTimeout", 0, 43_200),
        ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
    ],
)
def test_numbers_have_bounds(name, low, high):
    for value in (low, high):
        assert check({name: str(value)}, fifo=False) == {name: str(value)}
    for value in (low - 1, high + 1, "", "x", "1.5", "1e3"):
        with pytest.raises(SqsError) as refused:
            check({name: str(value)}, fifo=False)
        assert refused.value.code == "InvalidAttributeValue"


@pytest.mark.parametrize(
    "attributes",
    [
        {"ContentBasedDeduplication": "true"},
        {"FifoQueue": "false"},
        {"DeduplicationScope": "queue"},
        {"Unknown": "1"},
        {"QueueArn": "x"},
    ],
)
def test_what_a_standard_queue_does_not_have(attributes):
    with pytest.raises(SqsError) as refused:
        check(attributes, fifo=False)
    assert refused.value.code == "InvalidAttributeName"


@pytest.mark.parametrize(
    "attributes",
    [
        {"FifoQueue": "false"},
        {"ContentBasedDeduplication": "yes"},
        {"DeduplicationScope": "group"},
        {"FifoThroughputLimit": "perMessageGroupId"},
        {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "queue"},
    ],
)
def test_what_a_fifo_queue_refuses(attributes):
    with pytest.raises(SqsError) as refused:
        check(attributes, fifo=True)
    assert refused.value.code == "InvalidAttributeValue"


def test_high_throughput():
    attributes = {"FifoThroughputLimit": "perMessageGroupId", "DeduplicationScope": "messageGroup"}
    assert check(attributes, fifo=True) == attributes


@pytest.mark.parametrize(
    "policy",
    [
        "nonsense",
        "[]",
        "{}",
        {"deadLetterTargetArn": "dead"},
        {"deadLetterTargetArn": "dead", "maxReceiveCount": 1},
        {"deadLetterTargetArn": ARN},
        {"maxReceiveCount": 1},
        {"deadLetterTargetArn": ARN, "maxReceiveCount": 0},
        {"deadLetterTargetArn": ARN, "maxReceiveCount": 1001},
        {"deadLetterTargetArn": ARN, "maxReceiveCount": "x"},
        {"deadLetterTargetArn": ARN, "maxReceiveCount": 1, "more": 1},
    ],
)
def test_wrong_redrive_policies(policy):
    text = policy if isinstance(policy, str) else json.dumps(policy)
    with pytest.raises(SqsError) as refused:
        check({"RedrivePolicy": text}, fifo=False)
    assert refused.value.query_code == "InvalidParameterValue"


def test_a_redrive_policy_may_hold_its_number_as_text():
    for given, count in (('"5"', 5), ("7", 7)):
        policy = f'{{"deadLetterTargetArn":"{ARN}","maxReceiveCount":{given}}}'
        checked = check({"RedrivePolicy": policy}, fifo=False)
        settings = settings_of({**defaults(fifo=False), **checked})
        assert (settings.dead_letter_arn, settings.max_receive_count) == (ARN, count)


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"redrivePermission": "some"},
        {"redrivePermission": "byQueue"},
        {"redrivePermission": "byQueue", "sourceQueueArns": []},
        {"redrivePermission": "byQueue", "sourceQueueArns": [ARN] * 11},
        {"redrivePermission": "allowAll", "sourceQueueArns": [ARN]},
    ],
)
def test_wrong_redrive_allow_policies(policy):
    with pytest.raises(SqsError):
        check({"RedriveAllowPolicy": json.dumps(policy)}, fifo=False)


def test_who_may_use_a_dead_letter_queue():
    assert permits(None, "a")
    assert permits('{"redrivePermission":"allowAll"}', "a")
    assert not permits('{"redrivePermission":"denyAll"}', "a")
    by_queue = '{"redrivePermission":"byQueue","sourceQueueArns":["a"]}'
    assert permits(by_queue, "a")
    assert not permits(by_queue, "b")


def test_a_removed_document_is_an_empty_one():
    empty = {"RedrivePolicy": "", "RedriveAllowPolicy": "", "Policy": ""}
    assert check(empty, fifo=False) == empty


def test_defaults():
    assert settings_of(defaults(fifo=False)) == Settings()
    assert settings_of(defaults(fifo=True)) == Settings(fifo=True)


@pytest.mark.parametrize("name", ["a", "A-z_0", "x" * 80])
def test_names(name):
    check_name(name, fifo=False)
    check_name(f"{name[:75]}.fifo", fifo=True)


@pytest.mark.parametrize(
    ("name", "fifo"),
    [("", False), ("a b", False), ("a.b", False), ("x" * 81, False), ("ü", False),
     ("a.fifo", False), ("a", True), ("x" * 76 + ".fifo", True)],
)  # fmt: skip
def test_wrong_names(name, fifo):
    with pytest.raises(SqsError) as refused:
        check_name(name, fifo=fifo)
    assert refused.value.query_code == "InvalidParameterValue"
