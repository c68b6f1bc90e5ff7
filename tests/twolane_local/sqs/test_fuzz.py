"""Whatever a client sends, it gets an answer in the shape of its protocol, never a crash."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal

ACTIONS = [
    "AddPermission", "CancelMessageMoveTask", "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch", "CreateQueue", "DeleteMessage", "DeleteMessageBatch",
    "DeleteQueue", "GetQueueAttributes", "GetQueueUrl", "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks", "ListQueueTags", "ListQueues", "PurgeQueue", "ReceiveMessage",
    "RemovePermission", "SendMessage", "SendMessageBatch", "SetQueueAttributes",
    "StartMessageMoveTask", "TagQueue", "UntagQueue",
]  # fmt: skip
URLS = ["http://x/123456789012/q", "http://x/123456789012/q.fifo", "q", "http://x/1/no"]
ARN = "arn:aws:sqs:us-east-1:123456789012:"

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**6) | st.text(max_size=8) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
value = st.fixed_dictionaries(
    {},
    optional={
        "DataType": st.sampled_from(["String", "Number", "Binary", "Binary.x", "No"]) | anything,
        "StringValue": st.text(max_size=5) | anything,
        "BinaryValue": st.sampled_from(["AA==", "%"]) | anything,
    },
)
values = st.dictionaries(
    st.sampled_from(["a", "b.c", "AWS.x", "AWSTraceHeader"]), value, max_size=3
)
message = {
    "MessageBody": st.text(max_size=8) | anything,
    "DelaySeconds": st.integers(0, 900) | anything,
    "MessageAttributes": values | anything,
    "MessageSystemAttributes": values | anything,
    "MessageGroupId": st.sampled_from(["g", "h"]) | anything,
    "MessageDeduplicationId": st.sampled_from(["d", "e"]) | anything,
    "ReceiptHandle": st.sampled_from(["last", "x", ""]) | anything,
    "VisibilityTimeout": st.integers(0, 43_200) | anything,
}
entry = st.fixed_dictionaries({"Id": st.sampled_from(["a", "b", "c d"])}, optional=message)
attribute = st.dictionaries(
    st.sampled_from(["DelaySeconds", "RedrivePolicy", "FifoQueue", "Policy", "VisibilityTimeout",
                     "RedriveAllowPolicy", "KmsMasterKeyId", "Nope"]),
    st.sampled_from(["0", "5", "true", "", "{}", "[]", '{"Statement":1}',
                     f'{{"deadLetterTargetArn":"{ARN}dead"}}']) | anything,
    max_size=3,
)  # fmt: skip
params = st.fixed_dictionaries(
    {},
    optional={
        **message,
        "QueueUrl": st.sampled_from(URLS) | anything,
        "QueueName": st.sampled_from(["q", "new", "new.fifo"]) | anything,
        "QueueNamePrefix": anything,
        "Attributes": attribute | anything,
        "AttributeNames": st.lists(st.sampled_from(["All", "Policy", "Nope"])) | anything,
        "MessageAttributeNames": st.lists(st.sampled_from(["All", "*", "a.*"])) | anything,
        "MaxNumberOfMessages": st.integers(1, 10) | anything,
        "MaxResults": st.integers(1, 10) | anything,
        "NextToken": anything,
        "ReceiveRequestAttemptId": anything,
        "Entries": st.lists(entry, max_size=3) | anything,
        "tags": anything,
        "Tags": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3) | anything,
        "TagKeys": st.lists(st.text(max_size=3), max_size=3) | anything,
        "Label": anything,
        "Actions": st.lists(st.text(max_size=3), max_size=9) | anything,
        "AWSAccountIds": st.lists(st.text(max_size=3), max_size=3) | anything,
        "SourceArn": st.sampled_from([f"{ARN}dead", f"{ARN}q", f"{ARN}no"]) | anything,
        "DestinationArn": st.sampled_from([f"{ARN}q", f"{ARN}no"]) | anything,
        "MaxNumberOfMessagesPerSecond": st.integers(1, 500) | anything,
        "TaskHandle": anything,
    },
)


def world():
    clock = SystemClock()
    queues = QueueService(clock, Journal(clock))
    queues.create("dead")
    policy = json.dumps({"deadLetterTargetArn": queues.arn("dead"), "maxReceiveCount": 1})
    queues.create("q", {"RedrivePolicy": policy})
    queues.create("q.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    queues.send("q", NewMessage("x"))
    return queues, queues.receive("q")[0].receipt_handle


def with_handle(value, handle):
    """Every receipt handle ``last`` as a real one."""
    if isinstance(value, dict):
        return {key: with_handle(inner, handle) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_handle(inner, handle) for inner in value]
    return handle if value == "last" else value


def answers(calls, tail):
    """Each call in both protocols, one after the other on the same queues."""
    queues, handle = world()
    api = SqsApi(queues)

    async def all_of_them():
        for action, given_params in calls:
            asked = {**with_handle(given_params, handle), "WaitTimeSeconds": 0}
            target = {"x-amz-target": f"AmazonSQS.{action}"}
            yield await api(AwsRequest("POST", "/", "", target, json.dumps(asked).encode()))
            form = f"Action={action}&" + "&".join(f"{name}.1.Name=x" for name in asked)
            yield await api(AwsRequest("POST", "/123456789012/q", "", {}, form.encode() + tail))

    async def gathered():
        return [answer async for answer in all_of_them()]

    return asyncio.run(gathered())


def check(calls, tail):
    for answer in answers(calls, tail):
        if answer.headers["content-type"] == "text/xml":
            assert answer.status in (200, 400, 403, 404)
            assert answer.body.startswith(b'<?xml version="1.0"?><')
        else:
            assert answer.status in (200, 400, 403, 404)
            assert isinstance(json.loads(answer.body), dict)


conversation = st.lists(st.tuples(st.sampled_from(ACTIONS), params), min_size=1, max_size=6)
quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(calls=conversation, tail=st.binary(max_size=20))
def test_every_answer_has_the_shape_of_its_protocol(calls, tail):
    check(calls, tail)


@pytest.mark.slow
@thorough
@given(calls=conversation, tail=st.binary(max_size=20))
def test_every_answer_of_many_has_the_shape_of_its_protocol(calls, tail):
    check(calls, tail)
