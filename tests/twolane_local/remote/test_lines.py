from __future__ import annotations

import json

import pytest

from twolane_local.remote.logs import LogLine, events

REPORT = (
    "REPORT RequestId: r-1\tDuration: 12.34 ms\tBilled Duration: 313 ms\tMemory Size: 512 MB\t"
    "Max Memory Used: 98 MB\tInit Duration: 300.10 ms\t\n"
)
PLATFORM_REPORT = json.dumps(
    {
        "time": "2026-01-01T00:00:00.000Z",
        "type": "platform.report",
        "record": {
            "requestId": "r-1",
            "status": "timeout",
            "metrics": {
                "durationMs": 12.34, "billedDurationMs": 313, "memorySizeMB": 512,
                "maxMemoryUsedMB": 98, "initDurationMs": 300.1,
            },
        },
    }
)  # fmt: skip
FIGURES = {
    "durationMs": 12.34,
    "billedMs": 313,
    "memoryMb": 512,
    "maxMemoryMb": 98,
    "initMs": 300.1,
}


@pytest.mark.parametrize(
    ("text", "error"), [(REPORT, None), (PLATFORM_REPORT, "timeout")], ids=["text", "json"]
)
def test_a_report_is_the_end_of_an_invocation(text: str, error: str | None) -> None:
    (event,) = events([LogLine(5.0, "Worker", text)])
    assert (event.kind, event.function, event.request_id) == ("invocation.ended", "Worker", "r-1")
    assert dict(event.data) == FIGURES | ({"error": error} if error else {})


@pytest.mark.parametrize(
    "text",
    [
        "START RequestId: r-1 Version: $LATEST\n",
        json.dumps({"type": "platform.start", "record": {"requestId": "r-1"}}),
    ],
)
def test_a_start_is_the_begin_of_one(text: str) -> None:
    (event,) = events([LogLine(5.0, "Worker", text)])
    assert (event.kind, event.request_id, event.at) == ("invocation.started", "r-1", 5.0)


@pytest.mark.parametrize(
    "text",
    [
        "END RequestId: r-1\n",
        "INIT_START Runtime Version: python:3.13.v1\n",
        json.dumps({"type": "platform.initStart", "record": {}}),
    ],
)
def test_lines_that_only_frame_are_no_events(text: str) -> None:
    assert events([LogLine(5.0, "Worker", text)]) == []


def test_the_runtimes_lines_are_read_as_in_the_emulator() -> None:
    line = {"logger": "twolane.worker", "event": "task.started", "taskName": "send",
            "taskId": "t-1", "requestId": "r-1", "queue": "tasks", "messageId": "m-1",
            "level": "INFO", "_aws": {}, "eventId": "1"}  # fmt: skip
    (event,) = events([LogLine(5.0, "Worker", json.dumps(line))])
    assert (event.kind, event.task_id, event.queue) == ("task.started", "t-1", "tasks")
    assert dict(event.data) == {"taskName": "send", "level": "INFO", "logger": "twolane.worker"}


def test_a_line_that_is_there_twice_counts_once() -> None:
    line = {"logger": "twolane.worker", "event": "task.failed", "taskName": "send", "taskId": "t-1"}
    texts = [json.dumps({**line, "eventId": each}) for each in ("1", "1", "2")]
    assert len(events([LogLine(5.0, "Worker", text) for text in texts])) == 2


def test_any_other_line_is_a_log_line_and_all_are_in_order() -> None:
    found = events([LogLine(6.0, "f", "second"), LogLine(5.0, "f", "first")])
    assert [(event.kind, event.data["line"]) for event in found] == [
        ("log", "first"), ("log", "second"),
    ]  # fmt: skip
