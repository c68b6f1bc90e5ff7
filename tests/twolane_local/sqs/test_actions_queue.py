"""Actions on queues, with literal requests and answers."""

from __future__ import annotations

import json

import pytest

from twolane_local.aws.sqs.service import NewMessage

URL = "http://127.0.0.1:4566/123456789012/q"


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


def test_pages_of_queues(call, queues):
    assert call("ListQueues") == {}
    for name in ("a1", "a2", "a3", "b"):
        queues.create(name)
    base = "http://127.0.0.1:4566/123456789012"
    first = call("ListQueues", QueueNamePrefix="a", MaxResults=2)
    assert first["QueueUrls"] == [f"{base}/a1", f"{base}/a2"]
    rest = call("ListQueues", QueueNamePrefix="a", MaxResults=2, NextToken=first["NextToken"])
    assert rest == {"QueueUrls": [f"{base}/a3"]}
    assert len(call("ListQueues")["QueueUrls"]) == 4


def redrive(target, count=1):
    return json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": count})


def test_a_redrive_policy_needs_a_target_of_the_same_kind_that_allows_it(call, queues):
    fifo = {"FifoQueue": "true"}
    queues.create("x.fifo", fifo)
    queues.create("closed", {"RedriveAllowPolicy": '{"redrivePermission":"denyAll"}'})
    for target in ("nowhere", "x.fifo", "closed"):
        attributes = {"RedrivePolicy": redrive(queues.arn(target))}
        error, _ = call("CreateQueue", 400, QueueName="q", Attributes=attributes)
        assert error["__type"].endswith("InvalidParameterValueException"), target
    queues.create("dead")
    attributes = {"RedrivePolicy": redrive(queues.arn("dead"))}
    call("CreateQueue", QueueName="q", Attributes=attributes)
    assert call("ListDeadLetterSourceQueues", QueueUrl=f"{URL[:-1]}dead") == {"queueUrls": [URL]}
    assert call("ListDeadLetterSourceQueues", QueueUrl=URL) == {"queueUrls": []}
    call("SetQueueAttributes", QueueUrl=URL, Attributes={"RedrivePolicy": ""})
    assert call("ListDeadLetterSourceQueues", QueueUrl=f"{URL[:-1]}dead") == {"queueUrls": []}


def test_tags(call, queues):
    queues.create("q")
    assert call("ListQueueTags", QueueUrl=URL) == {}
    call("TagQueue", QueueUrl=URL, Tags={"a": "1", "b": ""})
    call("UntagQueue", QueueUrl=URL, TagKeys=["a", "nowhere"])
    assert call("ListQueueTags", QueueUrl=URL) == {"Tags": {"b": ""}}


@pytest.mark.parametrize(
    "tags",
    [{}, {"": "x"}, {"k" * 129: "x"}, {"k": "v" * 257}, {str(n): "v" for n in range(51)}],
)
def test_wrong_tags(call, queues, tags):
    queues.create("q")
    error, _ = call("TagQueue", 400, QueueUrl=URL, Tags=tags)
    assert error["__type"].endswith("InvalidParameterValueException")


def test_permissions_are_statements_of_the_policy(call, queues):
    queues.create("q")
    grant = {"QueueUrl": URL, "AWSAccountIds": ["111111111111"], "Actions": ["SendMessage"]}
    call("AddPermission", Label="one", **grant)
    error, _ = call("AddPermission", 400, Label="one", **grant)
    assert "Already exists" in error["message"]
    call("AddPermission", Label="two", **grant)
    call("RemovePermission", QueueUrl=URL, Label="one")
    policy = call("GetQueueAttributes", QueueUrl=URL, AttributeNames=["Policy"])["Attributes"]
    assert json.loads(policy["Policy"]) == {
        "Version": "2008-10-17",
        "Id": "arn:aws:sqs:us-east-1:123456789012:q/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "two",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
                "Action": "SQS:SendMessage",
                "Resource": "arn:aws:sqs:us-east-1:123456789012:q",
            }
        ],
    }
    call("RemovePermission", QueueUrl=URL, Label="two")
    assert call("GetQueueAttributes", QueueUrl=URL, AttributeNames=["Policy"]) == {}
    error, _ = call("RemovePermission", 400, QueueUrl=URL, Label="two")
    assert "can't find label" in error["message"]
    many = {**grant, "Actions": [f"Action{number}" for number in range(8)]}
    error, _ = call("AddPermission", 403, Label="many", **many)
    assert error["__type"] == "com.amazonaws.sqs#OverLimit"


def test_counts(call, queues, clock):
    queues.create("q")
    for delay in (0, 0, 0, 60):
        queues.send("q", NewMessage("x", delay_s=delay))
    queues.receive("q")
    counts = {"", "NotVisible", "Delayed"}
    names = [f"ApproximateNumberOfMessages{which}" for which in counts]
    assert call("GetQueueAttributes", QueueUrl=URL, AttributeNames=names) == {
        "Attributes": {
            "ApproximateNumberOfMessages": "2",
            "ApproximateNumberOfMessagesNotVisible": "1",
            "ApproximateNumberOfMessagesDelayed": "1",
        }
    }


def test_a_queue_that_is_deleted_or_purged(call, queues):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    assert call("PurgeQueue", QueueUrl=URL) == {}
    assert len(queues.get("q")) == 0
    assert call("DeleteQueue", QueueUrl=URL) == {}
    error, _ = call("GetQueueUrl", 400, QueueName="q")
    assert error["__type"] == "com.amazonaws.sqs#QueueDoesNotExist"


def test_a_policy_of_one_statement_without_a_list_takes_another(call, queues):
    queues.create("q", {"Policy": '{"Statement":{"Effect":"Allow"}}'})
    call("AddPermission", QueueUrl=URL, Label="l", AWSAccountIds=["1"], Actions=["SendMessage"])
    policy = json.loads(queues.get("q").attributes["Policy"])
    assert [statement.get("Sid") for statement in policy["Statement"]] == [None, "l"]
