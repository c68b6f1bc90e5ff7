"""SQS without a socket, as the runtime's light client sees it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.clock import SystemClock
from twolane_local.faults.injection import Faults
from twolane_local.faults.queues import FaultyQueues
from twolane_local.journal import Journal
from twolane_local.simulator.wire import LocalWire


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> FaultyQueues:
    clock = SystemClock()
    journal = Journal(clock)
    made = FaultyQueues(clock, journal)
    made.ensure("tasks", {})
    made.faults = Faults(journal, clock)
    monkeypatch.setattr(LocalWire, "queues", made)
    return made


def send(body: str = "a") -> tuple[int, Any]:
    fields = {"QueueUrl": "http://sqs/123456789012/tasks", "MessageBody": body}
    headers = {"x-amz-target": "AmazonSQS.SendMessage"}
    response = LocalWire().post(headers, json.dumps(fields).encode(), timeout_s=1.0)
    return response.status, json.loads(response.body)


def test_a_message_is_sent(queues: FaultyQueues) -> None:
    status, answer = send()
    assert status == 200
    assert answer["MessageId"] == next(iter(queues.refreshed("tasks"))).message.id


def test_a_refusal_is_sqs_s(queues: FaultyQueues) -> None:
    assert queues.faults is not None
    queues.faults.inject("send.failed")
    status, answer = send()
    assert status == 400
    assert answer["__type"].endswith("#ServiceUnavailable")


def test_a_lost_answer_is_a_time_out(queues: FaultyQueues) -> None:
    assert queues.faults is not None
    queues.faults.inject("send.reply-lost")
    with pytest.raises(TimeoutError):
        send()
    assert len(queues.refreshed("tasks")) == 1


def test_without_a_run_nobody_is_there() -> None:
    with pytest.raises(ConnectionRefusedError):
        send()
