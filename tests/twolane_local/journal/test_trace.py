from __future__ import annotations

import pytest

from twolane_local.journal.related_events import UnknownIdError
from twolane_local.journal.trace import LIMIT, trace


def told(journal, identity="request-0", now=None):
    events = list(journal)
    return trace(events, identity, now=events[-1].at if now is None else now)


def lines(found):
    depth = {}
    for span in found.spans:
        depth[span.id] = depth.get(span.parent, -1) + 1
    return [f"{'  ' * depth[span.id]}{span.kind}: {span.title} [{span.state}]"
            for span in found.spans]  # fmt: skip


def test_one_request_over_both_lanes(tell, journal):
    tell.request()
    message = tell.publish("task-aaaa")
    journal.record("inline.started", function="Api", request_id="request-0", taskName="app.mail")
    tell.clock.now += 0.01
    journal.record("inline.failed", function="Api", request_id="request-0", taskName="app.mail",
                   errorType="OSError", stackTrace="Traceback\nOSError: no")  # fmt: skip
    tell.done()
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=1)
    tell.log("task-aaaa", "Sending")
    tell.task("succeeded", "task-aaaa", received, durationMs=9.0)
    tell.end(received, delete=True)
    found = told(journal)
    assert lines(found) == [
        "request: POST /x [ok]",
        "  invocation: Api, cold [ok]",
        "    inline: app.mail [failed]",
        "  response: response 202 sent [ok]",
        "  task: app.send [ok]",
        "    message: on tasks [ok]",
        "    receive: receive 1 by Worker, cold [ok]",
        "      attempt: attempt 1: succeeded [ok]",
        "    result: result: succeeded [ok]",
    ]
    assert not found.running
    by_kind = {span.kind: span for span in found.spans}
    assert by_kind["invocation"].marks[0].text == "response sent"
    assert by_kind["invocation"].detail["billedMs"] == 25
    assert by_kind["inline"].detail["error"]["traceback"].endswith("OSError: no")
    assert [line["text"] for line in by_kind["attempt"].detail["logs"]] == ["Sending"]
    assert by_kind["receive"].detail["billedMs"] == 100
    assert by_kind["message"].message_id == message


def test_a_retry_waits_and_is_received_again(tell, journal):
    tell.request()
    tell.publish("task-aaaa")
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=1)
    tell.publish("task-aaaa", delay=8)
    tell.log("task-aaaa", "boom", stackTrace="Traceback\nValueError: no")
    tell.task("retried", "task-aaaa", received, errorType="ValueError")
    tell.end(received, delete=True)
    waiting = told(journal)
    assert waiting.running
    assert lines(waiting)[-1] == "    wait: delayed 8 s on tasks [waiting]"
    attempt = next(span for span in waiting.spans if span.kind == "attempt")
    assert attempt.state == "retried"
    assert attempt.detail["error"]["type"] == "ValueError"
    assert attempt.detail["error"]["message"] == "ValueError: no"
    tell.clock.now += 8
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=2)
    tell.task("succeeded", "task-aaaa", received)
    tell.end(received, delete=True)
    assert lines(told(journal))[-4:] == [
        "    wait: delayed 8 s on tasks [ok]",
        "    receive: receive 1 by Worker [ok]",
        "      attempt: attempt 2: succeeded [ok]",
        "    result: result: succeeded [ok]",
    ]


def test_a_dead_letter_and_its_redrive(tell, journal):
    tell.request()
    message = tell.publish("task-aaaa")
    for number in (1, 2):
        received = tell.receive()
        tell.task("started", "task-aaaa", received, attempt=number)
        tell.task("failed", "task-aaaa", received, errorType="ValueError")
        tell.end(received, delete=False)
        tell.clock.now += 31
    tell.queues.receive("tasks")
    dead = told(journal)
    assert lines(dead)[4:] == [
        "    message: on tasks [ok]",
        "    receive: receive 1 by Worker, cold [retried]",
        "      attempt: attempt 1: failed [failed]",
        "    wait: back on tasks [ok]",
        "    receive: receive 2 by Worker [retried]",
        "      attempt: attempt 2: failed [failed]",
        "    dead-letter: dead letter on dead [failed]",
        "    result: result: failed [failed]",
    ]
    assert lines(dead)[3] == "  task: app.send [failed]"
    tell.queues.redrive_one("dead", None, message_id=message)
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=1)
    tell.task("succeeded", "task-aaaa", received)
    tell.end(received, delete=True)
    mended = lines(told(journal))
    assert "    dead-letter: dead letter on dead, redriven to tasks [failed]" in mended
    assert mended[-4:] == [
        "    message: redriven from dead [ok]",
        "    receive: receive 1 by Worker [ok]",
        "      attempt: attempt 1: succeeded [ok]",
        "    result: result: succeeded [ok]",
    ]


def test_a_chord_joins(tell, journal):
    tell.request()
    callback = {"task": "app.report", "args": [], "kwargs": {}, "options": {"task_id": "task-cccc"}}
    for task in ("task-aaaa", "task-bbbb"):
        tell.publish(task, chord=callback)
    for task in ("task-aaaa", "task-bbbb"):
        received = tell.receive()
        tell.task("started", task, received, attempt=1)
        tell.task("succeeded", task, received)
        if task == "task-bbbb":
            tell.publish("task-cccc", parent_id="task-bbbb")
        tell.end(received, delete=True)
    found = told(journal)
    chord = next(span for span in found.spans if span.kind == "chord")
    assert chord.title == "chord: 2 tasks join into app.report"
    assert chord.state == "ok"
    assert chord.detail["header"] == ["task-aaaa", "task-bbbb"]
    child = next(span for span in found.spans if span.id == "task:task-cccc")
    assert child.parent == "task:task-bbbb"


def test_parents_come_before_their_children(tell, journal):
    tell.request()
    tell.publish("task-bbbb", parent_id="task-aaaa")
    tell.publish("task-aaaa")
    seen = set()
    for span in told(journal).spans:
        assert span.parent is None or span.parent in seen
        seen.add(span.id)


def test_several_steps_at_one_instant_of_a_paused_clock_are_kept_apart(tell, journal):
    tell.request()
    tell.publish("task-aaaa")
    before = tell.clock.now
    for _ in range(2):
        received = tell.receive()
        tell.task("started", "task-aaaa", received, attempt=1)
        tell.task("failed", "task-aaaa", received)
        tell.clock.now = before
        tell.end(received, delete=False)
        tell.queues.change_visibility("tasks", received.receipt_handle, 0)
    assert sum(span.kind == "attempt" for span in told(journal).spans) == 2


def test_what_is_under_way_has_no_end(tell, journal):
    tell.request(status=None)
    found = told(journal, now=tell.clock.now + 5)
    assert [(span.kind, span.state, span.end) for span in found.spans] == [
        ("request", "running", None),
        ("invocation", "running", None),
    ]
    assert found.running
    assert found.end == tell.clock.now + 5


def test_leaps_and_faults_are_marks_on_the_time_line(tell, journal):
    tell.request()
    journal.record("fault.injected", name="send.failed", seed=1)
    journal.record("clock.moved", text="the clock was advanced by 9 s")
    marks = told(journal).spans[0].marks
    assert [mark.text for mark in marks] == [
        "fault: send.failed", "the clock was advanced by 9 s",
    ]  # fmt: skip


def test_a_message_that_is_no_task_has_a_trace(tell, journal):
    from twolane_local.aws.sqs.service import NewMessage

    message = tell.queues.send("tasks", NewMessage("plain"))
    assert lines(told(journal, message.id)) == ["message: on tasks [waiting]"]


def test_a_very_large_story_is_cut(tell, journal):
    tell.request()
    for number in range(LIMIT // 2 + 10):
        tell.publish(f"task-{number:06d}")
    found = told(journal)
    assert len(found.spans) == LIMIT
    assert found.left_out > 0


def test_an_id_that_nobody_knows(journal):
    with pytest.raises(UnknownIdError):
        trace(journal, "nothing-here", now=0.0)


def test_a_receive_ends_with_its_environment(tell, journal):
    """Not with the message's visibility timeout, which may be minutes later."""
    tell.request()
    tell.done()
    tell.publish("task-aaaa")
    tell.task("started", "task-aaaa", tell.receive(), attempt=1)
    tell.killed()
    ended = tell.clock.now
    tell.clock.now += 31
    received = tell.receive()
    tell.task("succeeded", "task-aaaa", received, durationMs=9.0)
    tell.end(received, delete=True)
    found = told(journal)
    assert [line.strip() for line in lines(found)[4:]] == [
        "message: on tasks [ok]",
        "receive: receive 1 by Worker, cold [failed]",
        "attempt: attempt 1: the environment exited (signal: killed) [failed]",
        "wait: invisible on tasks [ok]",
        "wait: back on tasks [ok]",
        "receive: receive 2 by Worker [ok]",
        "attempt: succeeded [ok]",
        "result: result: succeeded [ok]",
    ]
    first = next(span for span in found.spans if span.kind == "receive")
    assert first.end == ended
    assert first.detail["reason"] == "the environment exited (signal: killed)"
    assert not found.running
