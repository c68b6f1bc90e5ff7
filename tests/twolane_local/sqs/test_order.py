from __future__ import annotations

import pytest

from twolane_local.aws.sqs.errors import InvalidParameterValueError
from twolane_local.aws.sqs.service import NewMessage

FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


@pytest.fixture
def send(queues):
    queues.create("q.fifo", FIFO)

    def send(*names):
        """``a1`` is body a1 in group a."""
        return [queues.send("q.fifo", NewMessage(name, group_id=name[0])) for name in names]

    return send


def bodies(received):
    return [one.message.body for one in received]


def test_a_group_comes_in_order_and_one_receive_may_take_several(queues, send):
    send("a1", "b1", "a2", "c1", "a3", "b2")
    assert bodies(queues.receive("q.fifo", 4)) == ["a1", "a2", "a3", "b1"]


def test_a_group_in_flight_hands_out_no_more(queues, send):
    send("a1", "a2", "b1")
    assert bodies(queues.receive("q.fifo")) == ["a1"]
    assert bodies(queues.receive("q.fifo", 10)) == ["b1"]
    send("a3")
    assert queues.receive("q.fifo", 10) == []


def test_a_deleted_message_frees_its_group(queues, send):
    send("a1", "a2")
    first = queues.receive("q.fifo")[0]
    queues.delete("q.fifo", first.receipt_handle)
    assert bodies(queues.receive("q.fifo")) == ["a2"]


def test_messages_behind_one_in_flight_wait(queues, send):
    send("a1", "a2", "a3")
    one, two = queues.receive("q.fifo", 2)
    queues.delete("q.fifo", one.receipt_handle)
    assert queues.receive("q.fifo") == []
    queues.change_visibility("q.fifo", two.receipt_handle, 0)
    assert bodies(queues.receive("q.fifo", 10)) == ["a2", "a3"]


def test_messages_before_one_in_flight_do_not_wait(queues, send, clock):
    send("a1", "a2", "a3", "a4")
    three = queues.receive("q.fifo", 3)[2]
    queues.change_visibility("q.fifo", three.receipt_handle, 60)
    clock.now += 30
    again = queues.receive("q.fifo", 10)
    assert bodies(again) == ["a1", "a2"]
    for one in again:
        queues.delete("q.fifo", one.receipt_handle)
    assert queues.receive("q.fifo") == []
    clock.now += 30
    assert bodies(queues.receive("q.fifo", 10)) == ["a3", "a4"]


def test_one_message_given_back_is_received_before_those_in_flight(queues, send):
    send("a1", "a2", "b1")
    one, two = queues.receive("q.fifo", 2)
    queues.change_visibility("q.fifo", one.receipt_handle, 0)
    again = queues.receive("q.fifo", 10)
    assert bodies(again) == ["b1", "a1"]  # group a was served, and goes to the back
    queues.delete("q.fifo", again[1].receipt_handle)
    queues.change_visibility("q.fifo", two.receipt_handle, 0)
    assert bodies(queues.receive("q.fifo", 10)) == ["a2"]


def test_a_served_group_goes_to_the_back(queues, send):
    send("a1", "b1", "b2", "c1", "a2")
    assert bodies(queues.receive("q.fifo", 3, visibility_s=0)) == ["a1", "a2", "b1"]
    assert bodies(queues.receive("q.fifo", 10)) == ["c1", "a1", "a2", "b1", "b2"]


def test_a_message_comes_back_before_those_sent_after_its_last_receive(queues, clock):
    queues.create("q")
    for body in ("1", "2"):
        queues.send("q", NewMessage(body))
    assert bodies(queues.receive("q")) == ["1"]
    queues.send("q", NewMessage("3"))
    clock.now += 30
    assert bodies(queues.receive("q", visibility_s=0)) == ["2"]
    assert bodies(queues.receive("q", 10, visibility_s=0)) == ["1", "3", "2"]


def test_a_failing_message_keeps_no_other_waiting(queues):
    queues.create("q")
    for body in ("1", "2", "3"):
        queues.send("q", NewMessage(body))
    assert [bodies(queues.receive("q", visibility_s=0)) for _ in range(4)] == [
        ["1"], ["2"], ["3"], ["1"],
    ]  # fmt: skip


def test_what_comes_back_comes_first(queues, send, clock):
    send("a1", "a2", "a3")
    queues.receive("q.fifo", 2)
    clock.now += 30
    again = queues.receive("q.fifo", 10)
    assert [(one.message.body, one.receive_count) for one in again] == [
        ("a1", 2), ("a2", 2), ("a3", 1),
    ]  # fmt: skip


def test_the_groups_take_turns_by_their_oldest_message(queues, send):
    send("b1", "a1", "c1", "b2")
    assert bodies(queues.receive("q.fifo")) == ["b1"]
    assert bodies(queues.receive("q.fifo")) == ["a1"]
    assert bodies(queues.receive("q.fifo")) == ["c1"]


def test_a_delayed_head_holds_up_its_group_only(queues, send, clock):
    queues.configure("q.fifo", {"DelaySeconds": "10"})
    send("a1")
    queues.configure("q.fifo", {"DelaySeconds": "0"})
    send("a2", "b1")
    assert bodies(queues.receive("q.fifo", 10)) == ["b1"]
    clock.now += 10
    assert bodies(queues.receive("q.fifo", 10)) == ["a1", "a2"]


def test_an_expired_head_frees_its_group(queues, send, clock):
    queues.configure("q.fifo", {"MessageRetentionPeriod": "60"})
    send("a1")
    clock.now += 30
    send("a2")
    clock.now += 30
    assert bodies(queues.receive("q.fifo", 10)) == ["a2"]


def test_dead_letters_free_their_group_and_get_a_new_time_and_sequence(queues, send, clock):
    queues.create("dead.fifo", FIFO)
    arn = queues.arn("dead.fifo")
    policy = f'{{"deadLetterTargetArn":"{arn}","maxReceiveCount":1}}'
    queues.configure("q.fifo", {"RedrivePolicy": policy})
    sent = send("a1", "a2")[0]
    queues.receive("q.fifo")
    clock.now += 30
    assert bodies(queues.receive("q.fifo")) == ["a2"]
    dead = queues.receive("dead.fifo")[0].message
    assert (dead.id, dead.body, dead.group_id) == (sent.id, "a1", "a")
    assert dead.sent_at == clock.now
    assert dead.deduplication_id == sent.deduplication_id


def test_a_fifo_queue_refuses_an_expired_handle(queues, send, clock):
    send("a1")
    handle = queues.receive("q.fifo")[0].receipt_handle
    clock.now += 30
    with pytest.raises(InvalidParameterValueError, match="receipt handle has expired"):
        queues.delete("q.fifo", handle)


def test_sequence_numbers_rise(send):
    numbers = [message.sequence for message in send("a1", "b1", "a2")]
    assert all(len(number) == 20 for number in numbers)
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 3


def test_a_purge_frees_all_groups(queues, send):
    send("a1", "a2", "b1")
    queues.receive("q.fifo")
    assert queues.purge("q.fifo") == 3
    send("a3")
    assert bodies(queues.receive("q.fifo", 10)) == ["a3"]


def test_emptied_groups_are_forgotten(queues, send):
    for number in range(100):
        send(f"{chr(200 + number)}x")
    while received := queues.receive("q.fifo", 10):
        for one in received:
            queues.delete("q.fifo", one.receipt_handle)
    assert queues.get("q.fifo")._order._groups == {}
