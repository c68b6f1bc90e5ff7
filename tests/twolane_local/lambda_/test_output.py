from __future__ import annotations

import json

from twolane_local.aws.lambda_.framed_log import Frames
from twolane_local.aws.lambda_.output import Lines
from twolane_local.clock import SystemClock
from twolane_local.journal import Event, Journal, record_line


def frame(message: bytes) -> bytes:
    return b"\xa5\x5a\x00\x03" + len(message).to_bytes(4, "big") + bytes(8) + message


def test_lines_survive_any_cut() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == [b"a"]
    assert lines.feed(b"c") == []
    assert lines.feed(b"\n\nd") == [b"bc", b""]
    assert lines.flush() == [b"d"]
    assert lines.flush() == []


def test_frames_survive_any_cut() -> None:
    data = frame(b"one\ntwo") + frame(b"") + frame(b"three")
    for cut in range(len(data)):
        frames = Frames()
        records = frames.feed(data[:cut]) + frames.feed(data[cut:])
        assert [record for _, record in records] == [b"one\ntwo", b"", b"three"]


def journalled(line: bytes) -> Event:
    journal = Journal(SystemClock())
    record_line(journal, "f", "request", line)
    (event,) = journal
    return event


def test_a_plain_line_is_a_log_line() -> None:
    event = journalled(b"hello \xff")
    assert (event.kind, event.request_id, event.data) == (
        "log",
        "request",
        {"line": "hello \ufffd"},
    )


def test_an_event_of_the_runtime_keeps_its_kind_and_ids() -> None:
    line = {"event": "task.started", "taskId": "t", "requestId": "r", "messageId": "m", "n": 1,
            "logger": "twolane.worker"}  # fmt: skip
    event = journalled(json.dumps(line).encode())
    assert event.kind == "task.started"
    assert (event.task_id, event.request_id, event.message_id) == ("t", "r", "m")
    assert event.data == {"n": 1, "logger": "twolane.worker"}


def test_a_line_of_the_applications_is_no_event_whatever_it_calls_its_message() -> None:
    """structlog's JSON has the message in ``event``."""
    event = journalled(b'{"event": "tick", "level": "warning", "logger": "shop"}')
    assert (event.kind, event.data["line"], event.data["level"]) == ("log", "tick", "WARNING")


def test_an_unknown_event_and_hostile_field_names_do_no_harm() -> None:
    line = {
        "logger": "twolane",
        "event": "nobody.knows",
        "kind": "x",
        "function": "y",
        "message": "text",
    }
    event = journalled(json.dumps(line).encode())
    assert (event.kind, event.function) == ("log", "f")
    assert event.data == {"logger": "twolane", "message": "text", "line": "text"}
