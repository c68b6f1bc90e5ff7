from __future__ import annotations

import pytest

from twolane_local.aws.sqs.errors import (
    PurgeQueueInProgressError,
    QueueDeletedRecentlyError,
    QueueDoesNotExistError,
    QueueNameExistsError,
)
from twolane_local.aws.sqs.service import NewMessage


def test_creating_a_queue_again_gives_it_back_unless_an_attribute_differs(queues):
    first = queues.create("q", {"DelaySeconds": "5"})
    assert queues.create("q") is first
    assert queues.create("q", {"DelaySeconds": "5"}) is first
    with pytest.raises(QueueNameExistsError, match="attribute DelaySeconds"):
        queues.create("q", {"DelaySeconds": "6"})


def test_a_deleted_queues_name_is_taken_for_a_minute(queues, clock):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    queues.delete_queue("q")
    with pytest.raises(QueueDoesNotExistError):
        queues.get("q")
    clock.now += 59.9
    with pytest.raises(QueueDeletedRecentlyError):
        queues.create("q")
    clock.now += 0.1
    assert len(queues.create("q")) == 0


def test_one_purge_a_minute(queues, clock):
    queues.create("q")
    for _ in range(3):
        queues.send("q", NewMessage("x"))
    queues.receive("q")
    assert queues.purge("q") == 3
    clock.now += 59.9
    with pytest.raises(PurgeQueueInProgressError):
        queues.purge("q")
    clock.now += 0.1
    assert queues.purge("q") == 0


def test_ensure_creates_or_sets_everything_and_keeps_the_messages(queues):
    arn = queues.arn("dead")
    policy = f'{{"deadLetterTargetArn":"{arn}","maxReceiveCount":3}}'
    queues.ensure("q", {"DelaySeconds": "5", "RedrivePolicy": policy}, {"a": "b"})
    queues.send("q", NewMessage("x"))
    queue = queues.ensure("q", {"VisibilityTimeout": "7"})
    assert queue.attributes["DelaySeconds"] == "0"
    assert queue.attributes["VisibilityTimeout"] == "7"
    assert "RedrivePolicy" not in queue.attributes
    assert (queue.tags, len(queue)) == ({}, 1)


def test_ensure_may_bring_a_deleted_queue_back_at_once(queues):
    queues.ensure("q")
    queues.delete_queue("q")
    assert queues.ensure("q").name == "q"


def test_a_fifo_queue_is_ensured_as_one(queues):
    fifo = {"FifoQueue": "true"}
    queues.ensure("q.fifo", fifo)
    queue = queues.ensure("q.fifo", {**fifo, "ContentBasedDeduplication": "true"})
    assert queue.settings.content_deduplication


def test_tags(queues):
    queues.create("q", tags={"a": "1"})
    queues.tag("q", {"b": "2"})
    queues.tag("q", {"a": None})
    assert queues.get("q").tags == {"b": "2"}


def test_a_queue_is_found_by_its_arn_in_full(queues):
    queue = queues.create("q")
    assert queues.get_by_arn("arn:aws:sqs:us-east-1:123456789012:q") is queue
    with pytest.raises(QueueDoesNotExistError, match="eu-west-1"):
        queues.get_by_arn("arn:aws:sqs:eu-west-1:123456789012:q")
