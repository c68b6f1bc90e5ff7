from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.journal.lines import EventPrinter


def lines(*events: tuple[str, dict[str, Any]], **options: Any) -> list[str]:
    out = io.StringIO()
    journal = Journal(SystemClock())
    journal.subscribe(EventPrinter(out, **options).write)
    for kind, fields in events:
        journal.record(kind, **fields)
    return [line.partition(" ")[2] for line in out.getvalue().splitlines()]


TASK = "e4bc7d3d-f4bc-402b-bf31-e51cc27966d1"


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        (
            "request.received",
            {"method": "GET", "path": "/x", "request_id": TASK},
            "→ gateway         GET /x  e4bc7d3d",
        ),
        (
            "request.answered",
            {"function": "Api", "status": 500, "method": "GET", "path": "/x", "durationMs": 1.5,
             "error": "ValueError: bad"},
            "! Api             500 GET /x 1.5 ms (ValueError: bad)",
        ),
        (
            "task.started",
            {"function": "Worker", "task_id": TASK, "taskName": "app.send", "message": "→ send"},
            "→ Worker          started app.send  e4bc7d3d",
        ),
        (
            "task.succeeded",
            {"function": "Worker", "task_id": TASK, "taskName": "app.send", "durationMs": 218.2},
            "← Worker          succeeded app.send 218 ms  e4bc7d3d",
        ),
        (
            "task.retried",
            {"function": "Worker", "task_id": TASK, "taskName": "app.send", "message": "in 3 s"},
            "↻ Worker          retried app.send in 3 s  e4bc7d3d",
        ),
        ("message.dead_lettered", {"queue": "tasks"}, "! tasks           dead lettered"),
        ("log", {"function": "Api", "line": "hello"}, "· Api             hello"),
        ("log", {"function": "Api", "message": "no", "level": "ERROR"}, "! Api             no"),
        (
            "invocation.ended",
            {"function": "Api", "durationMs": 2.5, "billedMs": 3, "maxMemoryMb": 50,
             "memoryMb": 128, "initMs": 300.4},
            "← Api             REPORT 2.5 ms, billed 3 ms, 50/128 MB, init 300 ms",
        ),
    ],
)  # fmt: skip
def test_a_step_is_one_short_line(kind: str, fields: dict[str, Any], expected: str) -> None:
    assert lines((kind, fields)) == [expected]


def test_details_and_chatter_are_for_verbose() -> None:
    events: list[tuple[str, dict[str, Any]]] = [
        ("message.deleted", {"queue": "q"}),
        ("log", {"function": "f", "logger": "celery.worker.strategy", "message": "received"}),
    ]
    assert lines(*events) == []
    assert len(lines(*events, verbose=True)) == 2


def test_a_warning_of_a_library_is_shown() -> None:
    event = {"function": "f", "logger": "botocore.x", "message": "careful", "level": "WARNING"}
    assert lines(("log", event)) == ["· f               careful"]


def test_red_is_for_what_needs_a_look() -> None:
    (red,) = lines(("task.failed", {"function": "f"}), colour=True)
    (plain,) = lines(("task.succeeded", {"function": "f"}), colour=True)
    assert red.endswith("\x1b[0m")
    assert "\x1b" not in plain


def test_what_others_wrote_cannot_drive_the_terminal() -> None:
    event = {"function": "f", "line": "\x1b]0;owned\x07 first\nsecond"}
    assert lines(("log", event)) == ["· f               \\x1b]0;owned\\x07 first", ""]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_line_that_cannot_be_written_does_not_stop_what_it_is_about() -> None:
    journal = Journal(SystemClock())
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        out = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), write_through=True)
        journal.subscribe(EventPrinter(out).write)
        journal.record("task.started", task_id=TASK, task="a")
        assert len(journal) == 1
    finally:
        os.close(descriptor)
