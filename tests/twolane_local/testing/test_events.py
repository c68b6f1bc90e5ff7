"""The journal, as a test reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.testing.events import about, since

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
