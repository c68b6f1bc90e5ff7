from __future__ import annotations

from typing import Any

import pytest

from twolane_local.cli.tasks import runs_table, tasks_table

COUNTS = {"published": 12, "started": 11, "succeeded": 9, "failed": 1, "retried": 2, "running": 1}


def test_a_line_for_each_task() -> None:
    tasks = [{"name": "send", "counts": COUNTS, "p50Ms": 12.3, "p95Ms": 2100.0}]
    assert tasks_table(tasks).splitlines() == [
        "TASK  PUBLISHED  SUCCEEDED  FAILED  RETRIED  RUNNING    P50    P95",
        "send         12          9       1        2        1  12 ms  2.1 s",
    ]
    assert tasks_table([]) == "no task is known"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (None, ""),
        ("ValueError", "ValueError"),
        ({"type": "ValueError", "message": "no"}, "ValueError: no"),
    ],
)
def test_a_line_for_each_run(error: Any, shown: str) -> None:
    run = {"taskId": "t-1", "state": "failed", "attempts": 2, "durationMs": 8.6, "at": 880.0,
           "error": error}  # fmt: skip
    head, line = runs_table([run], now=1000.0).splitlines()
    assert head == "TASK ID  STATE   ATTEMPTS  TOOK  SENT       ERROR"
    assert line == f"t-1      failed         2  9 ms  2 min ago  {shown}".rstrip()
