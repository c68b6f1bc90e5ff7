from __future__ import annotations

import hashlib

import pytest

from twolane_local.aws.sqs.service import NewMessage


@pytest.fixture
def fifo(queues):
    queues.create("q.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    return queues


def test_a_duplicate_within_five_minutes_is_the_first_message(fifo, clock):
    first = fifo.send("q.fifo", NewMessage("x", group_id="a", deduplication_id="d"))
    clock.now += 299.9
    again = fifo.send("q.fifo", NewMessage("other body", group_id="b", deduplication_id="d"))
    assert again == first
    assert len(fifo.receive("q.fifo", 10)) == 1
    clock.now += 0.1
    assert fifo.send("q.fifo", NewMessage("x", group_id="a", deduplication_id="d")) != first


def test_a_duplicate_of_a_deleted_message_is_dropped_too(fifo):
    fifo.send("q.fifo", NewMessage("x", group_id="a"))
    fifo.delete("q.fifo", fifo.receive("q.fifo")[0].receipt_handle)
    fifo.send("q.fifo", NewMessage("x", group_id="a"))
    assert fifo.receive("q.fifo") == []


def test_content_is_the_sha256_of_the_body_and_equals_an_explicit_id(fifo):
    digest = hashlib.sha256(b"x").hexdigest()
    first = fifo.send("q.fifo", NewMessage("x", group_id="a"))
    assert first.deduplication_id == digest
    assert fifo.send("q.fifo", NewMessage("y", group_id="a", deduplication_id=digest)) == first


def test_the_scope_may_be_the_group(fifo):
    fifo.configure("q.fifo", {"DeduplicationScope": "messageGroup"})
    one = fifo.send("q.fifo", NewMessage("x", group_id="a"))
    two = fifo.send("q.fifo", NewMessage("x", group_id="b"))
    assert one.id != two.id
    assert fifo.send("q.fifo", NewMessage("x", group_id="a")).id == one.id


def test_a_standard_queue_keeps_duplicates(queues):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    queues.send("q", NewMessage("x"))
    assert len(queues.receive("q", 10)) == 2


def test_a_receive_can_be_repeated_with_its_attempt_id(fifo, clock):
    fifo.send("q.fifo", NewMessage("x", group_id="a"))
    first = fifo.receive("q.fifo", 10, attempt_id="t")
    clock.now += 20
    assert fifo.receive("q.fifo", 10, attempt_id="t") == first
    assert fifo.receive("q.fifo", 10, attempt_id="u") == []
    clock.now += 29
    assert fifo.receive("q.fifo", 10) == [], "the repeat started the visibility timeout anew"
    clock.now += 1
    assert fifo.receive("q.fifo", 10)[0].receive_count == 2


def test_a_touched_message_ends_the_attempt(fifo):
    for body in ("x", "y"):
        fifo.send("q.fifo", NewMessage(body, group_id="a"))
    first = fifo.receive("q.fifo", 2, attempt_id="t")
    fifo.delete("q.fifo", first[0].receipt_handle)
    assert fifo.receive("q.fifo", 2, attempt_id="t") == []
