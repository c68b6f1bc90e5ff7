from __future__ import annotations

import pytest

from twolane_local.journal.related_events import AmbiguousIdError, UnknownIdError, collect, resolve

ROOT = "request-0"


def test_a_request_a_task_and_a_message_lead_to_the_same_story(tell, journal):
    tell.request()
    message = tell.publish("task-aaaa")
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=1)
    tell.task("succeeded", "task-aaaa", received)
    tell.end(received, delete=True)
    journal.record("log", request_id="somebody-else", line="no")
    for identity in (ROOT, "task-aaaa", message, message[:8]):
        related = collect(journal, identity)
        assert related.root == ROOT
        assert set(related.tasks) == {"task-aaaa"}
        assert related.task_messages("task-aaaa") == [message]
        assert set(related.requests) == {ROOT, "batch-00000001"}


def test_what_a_task_publishes_belongs_to_the_request(tell, journal):
    tell.request()
    tell.publish("task-aaaa")
    received = tell.receive()
    journal.record("task.published", request_id=tell.batch, task_id="task-bbbb",
                   originRequestId=ROOT)  # fmt: skip
    tell.end(received, delete=True)
    assert set(collect(journal, ROOT).tasks) == {"task-aaaa", "task-bbbb"}


def test_a_redriven_message_belongs_to_its_task(tell, journal):
    tell.request()
    old = tell.publish("task-aaaa")
    for _ in range(2):
        tell.receive()
        tell.clock.now += 31
    assert tell.queues.receive("tasks") == []
    new = tell.queues.redrive_one("dead", None, message_id=old).id
    assert set(collect(journal, "task-aaaa").messages) == {old, new}


def test_a_task_of_which_nothing_tells_the_origin_is_a_story_of_its_own(journal):
    journal.record("task.started", task_id="task-aaaa", taskName="t")
    related = collect(journal, "task-aaaa")
    assert (related.root, set(related.tasks)) == (None, {"task-aaaa"})


def test_ids_may_be_short_but_must_be_known_and_clear(journal):
    journal.record("log", request_id="12345678-a")
    journal.record("log", task_id="12345678-b")
    assert resolve(list(journal), "12345678-a") == ("12345678-a", "request")
    with pytest.raises(AmbiguousIdError, match="could be"):
        resolve(list(journal), "12345678")
    with pytest.raises(UnknownIdError, match="holds nothing"):
        resolve(list(journal), "1234")


def test_faults_and_leaps_since_its_beginning_are_told(tell, journal):
    journal.record("clock.moved", text="before")
    tell.request()
    journal.record("fault.injected", name="send.failed", seed=1)
    assert [event.kind for event in collect(journal, ROOT).faults] == ["fault.injected"]
