from __future__ import annotations

from twolane_local.journal.messages import task_message
from twolane_local.journal.related_events import (
    CanvasPlace,
    canvas_place_of,
    chords_of,
    collect,
    parent_of,
)

CALLBACK = {"task": "app.report", "args": [], "kwargs": {}, "options": {"task_id": "task-cccc"}}


def test_a_tasks_place_is_read_from_its_message():
    _, body = task_message("t", [], chord=CALLBACK, parent_id="task-aaaa")
    assert canvas_place_of(body) == CanvasPlace("task-aaaa", "task-cccc", "app.report")


def test_what_is_no_task_or_was_cut_has_no_place():
    _, body = task_message("t", [])
    for text in ("", "plain", body[: len(body) // 2], '{"properties": {}, "headers": {}}'):
        assert canvas_place_of(text) == CanvasPlace()


def test_parents_and_chords_of_a_story(tell, journal):
    tell.request()
    for task in ("task-aaaa", "task-bbbb"):
        tell.publish(task, chord=CALLBACK)
    tell.publish("task-dddd", parent_id="task-aaaa")
    tell.publish("task-eeee", parent_id="of-another-request")
    related = collect(journal, "request-0")
    assert parent_of(related, "task-dddd") == "task:task-aaaa"
    assert parent_of(related, "task-eeee") is None
    (chord,) = chords_of(related).values()
    assert (chord.callback, chord.header) == ("task-cccc", ("task-aaaa", "task-bbbb"))
