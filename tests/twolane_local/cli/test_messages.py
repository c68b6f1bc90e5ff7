from __future__ import annotations

from typing import Any

import pytest

from twolane_local.cli.messages import call_of, messages_table


def message(**more: Any) -> dict[str, Any]:
    task = {"id": "t", "name": "send", "args": ["a"], "kwargs": {"times": 2}}
    return {"id": "m-1", "state": "visible", "receiveCount": 2, "sentAt": 940.0, "body": "raw",
            "task": task, **more}  # fmt: skip


def test_a_line_for_each_message() -> None:
    waiting = message(id="m-2", state="delayed", visibleAt=1041.0, task=None)
    assert messages_table([message(), waiting], now=1000.0).splitlines() == [
        "MESSAGE  STATE                     RECEIVED    AGE  TASK",
        "m-1      visible                          2  1 min  send('a', times=2)",
        "m-2      delayed, visible in 41 s         2  1 min  (no task) raw",
    ]
    assert messages_table([], now=0) == "no message"


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        ({"name": "send", "args": [], "kwargs": {}}, "send()"),
        ({"name": "pay", "argsRepr": "(***)", "kwargsRepr": "{}", "hidden": True}, "pay (***) {}"),
        ({"name": "send", "problem": "only JSON is read"}, "send"),
        ({}, "(no task) raw"),
        (None, "(no task) raw"),
    ],
)
def test_a_task_is_shown_as_the_call_that_it_is(task: Any, shown: str) -> None:
    assert call_of(message(task=task)) == shown


def test_what_a_message_holds_cannot_drive_the_terminal() -> None:
    evil = message(task=None, body="\x1b[2Jgone")
    assert "\x1b" not in messages_table([evil], now=1000.0)
