"""The journal, as a test reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.testing import TestingError
from twolane_local.testing.views import about, since

if TYPE_CHECKING:
    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


def test_what_happened_to_a_request(stack: Twolane) -> None:
    stack.client.post("/notes/first")
    stack.client.post("/notes/second")
    stack.deferred.run()
    first, second = stack.journal.requests
    story = stack.journal.about(first)
    assert [event.kind for event in story if event.kind.startswith(("request", "task"))] == [
        "request.received", "task.published", "request.answered", "task.started", "task.succeeded",
    ]  # fmt: skip
    assert {event.task_id for event in story if event.task_id} == {
        event.task_id for event in stack.journal.about(first) if event.kind == "task.published"
    }
    assert not {e.seq for e in story if e.task_id} & {
        e.seq for e in stack.journal.about(second) if e.task_id
    }


def test_what_happened_to_a_task_and_its_message(stack: Twolane) -> None:
    identity = stack.client.post("/run/chain", json=[2]).json()["id"]
    stack.deferred.run_until_idle()
    kinds = [event.kind for event in stack.journal.about(identity)]
    assert kinds.count("task.started") == 3
    assert "message.deleted" in kinds
    assert about(list(stack.journal), "nobody") == []


def test_find(stack: Twolane) -> None:
    stack.client.post("/notes/first")
    assert [e.kind for e in stack.journal.find("request")] == [
        "request.received", "request.answered",
    ]  # fmt: skip
    assert stack.journal.find("requ") == []
    assert [e.kind for e in stack.journal.find("task", queue="tasks")] == ["task.published"]
    assert stack.journal.find("invocation.started", function="Worker") == []
    assert len(stack.journal) == len(list(stack.journal))


def test_the_story_is_aligned(stack: Twolane) -> None:
    stack.client.post("/notes/first")
    stack.clock.advance(3)
    stack.deferred.run()
    lines = str(stack.journal).splitlines()
    assert lines[0].startswith("+0.000 ← Api      environment ready")
    told = [line.rsplit(maxsplit=1)[0].rstrip() for line in lines if "small.note" in line]
    assert told == [
        "+0.000 → Api      published small.note",
        "+0.000 → Worker   small.note started",
        "+0.000 ← Worker   small.note succeeded",
    ]
    assert len(stack.journal.story(details=True).splitlines()) > len(lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "+0.000"),
        (59.9996, "+01:00.000"),
        (90, "+01:30.000"),
        (3_661.5, "+01:01:01.500"),
        (90_061, "+1d 01:01:01.000"),
    ],
)
def test_times_since_the_start(seconds: float, text: str) -> None:
    assert since(seconds) == text


# Tasks by what the journal tells of them.


def test_states_and_histories(stack: Twolane, application: Any) -> None:
    one = stack.client.post("/notes/a").json()["id"]
    assert (stack.tasks[one].state, stack.tasks[one].done) == ("PENDING", False)
    chain = stack.client.post("/run/chain", json=[1]).json()["id"]
    stack.deferred.run()
    assert stack.tasks[one].steps == ["published", "started", "succeeded"]
    assert stack.tasks[chain].state == "RETRY"
    stack.deferred.run_until_idle()
    task = stack.tasks["chain"]
    assert (task.id, task.state, task.attempts, task.done) == (chain, "SUCCESS", 2, True)
    assert [task.name for task in stack.tasks] == ["small.note", "small.chain"]


def test_a_dead_letter_is_the_end_of_its_task(stack: Twolane) -> None:
    stack.client.post("/run/broken", json=[])
    stack.deferred.run_until_idle()
    assert (stack.tasks["small.broken"].state, stack.tasks["broken"].done) == ("DEAD", True)
    assert stack.tasks["broken"].steps[-1] == "dead_lettered"


def test_a_revoked_task(stack: Twolane, application: Any) -> None:
    identity = stack.client.post("/notes/a").json()["id"]
    application.celery.control.revoke(identity)
    stack.deferred.run()
    assert stack.tasks[identity].state == "REVOKED"
    assert application.calls == []


def test_names_that_are_not_unique(stack: Twolane) -> None:
    stack.client.post("/notes/a")
    stack.client.post("/notes/b")
    assert (len(stack.tasks.named("note")), len(stack.tasks)) == (2, 2)
    with pytest.raises(TestingError, match=r"2 tasks are called 'note', not one; .*small\.note\["):
        _ = stack.tasks["note"]
    with pytest.raises(TestingError, match="0 tasks are called 'nope'"):
        _ = stack.tasks["nope"]


# What is on a queue.


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
