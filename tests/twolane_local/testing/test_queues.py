"""What is on a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.testing.errors import TestingError
from twolane_local.virtual_clock import NEW_YEAR

if TYPE_CHECKING:
    from twolane_local.testing.stack import Twolane


def test_messages_with_their_tasks(stack: Twolane) -> None:
    identity = stack.client.post("/notes/ann?countdown=60").json()["id"]
    queue = stack.queue("tasks")
    (message,) = queue.messages
    assert (message.state, message.due_at) == ("delayed", NEW_YEAR + 60)
    assert (message.sent_at, message.receive_count) == (NEW_YEAR, 0)
    assert (message.task.id, message.task.name, message.task.args) == (
        identity, "small.note", ("ann",),
    )  # fmt: skip
    assert [task.id for task in queue.tasks] == [identity]


def test_what_is_no_task_says_why(stack: Twolane) -> None:
    stack.queue("tasks").send("hello", attributes={"kind": "note"})
    (message,) = stack.queue("tasks").messages
    assert message.task.name is None
    assert message.task.problem is not None
    assert message.attributes == {"kind": "note"}
    assert stack.queue("tasks").tasks == []


def test_messages_in_flight(stack: Twolane) -> None:
    queue = stack.queue("tasks")
    queue.send("hello")
    stack.queues.receive("tasks", visibility_s=30)
    assert queue.messages == []
    assert [(m.state, m.receive_count, m.due_at) for m in queue.in_flight] == [
        ("in flight", 1, NEW_YEAR + 30)
    ]
    assert len(queue) == 1


def test_an_unknown_queue_names_those_there_are(stack: Twolane) -> None:
    with pytest.raises(TestingError, match="no queue 'nope'; it has: tasks, tasks-dead"):
        stack.queue("nope")


def test_a_queue_without_a_dead_letter_queue_says_so(stack: Twolane) -> None:
    with pytest.raises(TestingError, match="RedrivePolicy"):
        _ = stack.queue("tasks-dead").dead_letters


def test_purge_and_redrive(stack: Twolane) -> None:
    queue = stack.queue("tasks")
    queue.send("one")
    for _ in range(6):
        stack.queues.receive("tasks", visibility_s=0)
    assert [message.body for message in queue.dead_letters] == ["one"]
    assert queue.redrive() == 1
    assert ([m.body for m in queue.messages], queue.dead_letters) == (["one"], [])
    queue.purge()
    assert len(queue) == 0
