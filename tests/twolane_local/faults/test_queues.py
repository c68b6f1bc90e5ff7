"""Faults of SQS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.sqs.errors import ServiceUnavailableError
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyQueues, RequestTimeoutError

if TYPE_CHECKING:
    from twolane_local.journal import Journal

    from ..conftest import HandClock  # noqa: TID252


@pytest.fixture
def queues(clock: HandClock, journal: Journal) -> FaultyQueues:
    made = FaultyQueues(clock, journal)
    made.ensure("tasks", {"VisibilityTimeout": "30"})
    return made


@pytest.fixture
def faults(queues: FaultyQueues, clock: HandClock, journal: Journal) -> Faults:
    faults = queues.faults = Faults(journal, clock)
    return faults


def bodies(queues: FaultyQueues) -> list[str]:
    return [received.message.body for received in queues.receive("tasks", 10)]


def test_without_faults_it_is_the_queue_itself(queues: FaultyQueues) -> None:
    queues.send("tasks", NewMessage("a"))
    assert bodies(queues) == ["a"]


def test_a_send_that_fails_and_one_whose_answer_is_lost(
    queues: FaultyQueues, faults: Faults
) -> None:
    faults.inject("send.failed")
    with pytest.raises(ServiceUnavailableError):
        queues.send("tasks", NewMessage("a"))
    assert bodies(queues) == []
    faults.inject("send.reply-lost")
    with pytest.raises(RequestTimeoutError):
        queues.send("tasks", NewMessage("a"))
    assert bodies(queues) == ["a"]


def test_a_receive_that_fails_and_one_whose_answer_is_lost(
    queues: FaultyQueues, faults: Faults, clock: HandClock
) -> None:
    faults.inject("receive.failed")
    assert bodies(queues) == [], "a poll that finds nothing does not count"
    queues.send("tasks", NewMessage("a"))
    with pytest.raises(ServiceUnavailableError):
        queues.receive("tasks")
    faults.inject("receive.reply-lost")
    with pytest.raises(RequestTimeoutError):
        queues.receive("tasks")
    assert bodies(queues) == []
    clock.now += 31
    (received,) = queues.receive("tasks")
    assert received.receive_count == 2


def test_a_delete_that_fails_and_one_whose_answer_is_lost(
    queues: FaultyQueues, faults: Faults
) -> None:
    queues.send("tasks", NewMessage("a"))
    (received,) = queues.receive("tasks")
    faults.inject("delete.failed")
    with pytest.raises(ServiceUnavailableError):
        queues.delete("tasks", received.receipt_handle)
    assert len(queues.refreshed("tasks")) == 1
    faults.inject("delete.reply-lost")
    with pytest.raises(RequestTimeoutError):
        queues.delete("tasks", received.receipt_handle)
    assert len(queues.refreshed("tasks")) == 0


def test_a_deleted_message_comes_again(
    queues: FaultyQueues, faults: Faults, clock: HandClock
) -> None:
    queues.send("tasks", NewMessage("a"))
    (received,) = queues.receive("tasks")
    faults.inject("queue.duplicate-delivery", after_s=5)
    assert queues.delete("tasks", received.receipt_handle)
    assert bodies(queues) == []
    clock.now += 6
    (again,) = queues.receive("tasks")
    assert again.message.id == received.message.id
    assert queues.delete("tasks", again.receipt_handle)
    assert len(queues.refreshed("tasks")) == 0


def test_a_message_is_delivered_twice_at_once(queues: FaultyQueues, faults: Faults) -> None:
    queues.send("tasks", NewMessage("a"))
    faults.inject("queue.two-deliveries-at-once")
    (first,) = queues.receive("tasks")
    (second,) = queues.receive("tasks")
    assert first.message.id == second.message.id
    assert not queues.delete("tasks", first.receipt_handle), "the older handle is void"
    assert queues.delete("tasks", second.receipt_handle)


def test_a_message_is_overtaken(queues: FaultyQueues, faults: Faults, clock: HandClock) -> None:
    faults.inject("queue.reordered", hold_s=5)
    queues.send("tasks", NewMessage("first"))
    queues.send("tasks", NewMessage("second"))
    assert bodies(queues) == ["second"]
    clock.now += 6
    assert bodies(queues) == ["first"]


def test_a_visibility_timeout_that_cannot_be_changed(queues: FaultyQueues, faults: Faults) -> None:
    queues.send("tasks", NewMessage("a"))
    (received,) = queues.receive("tasks")
    faults.inject("visibility.failed")
    with pytest.raises(ServiceUnavailableError):
        queues.change_visibility("tasks", received.receipt_handle, 0)
    queues.change_visibility("tasks", received.receipt_handle, 0)
    assert bodies(queues) == ["a"]


def test_a_body_is_spoiled_on_its_way(queues: FaultyQueues, faults: Faults) -> None:
    faults.inject("message.truncated")
    queues.send("tasks", NewMessage("abcdef"))
    assert bodies(queues) == ["abc"]
