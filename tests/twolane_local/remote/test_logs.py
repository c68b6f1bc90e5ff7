"""Against moto's CloudWatch Logs. It returns all lines for a pattern that it does not know, such as
`?"a" ?"b"`; what AWS would leave out, we leave out ourselves.
"""

from __future__ import annotations

import json
import time
import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.remote.logs import StackLogs, id_pattern

if TYPE_CHECKING:
    from twolane_local.remote.account import Account

NOW = float(int(time.time()))  # moto takes nothing from another age


class Written:
    """Log groups of one test, and what is written to them."""

    def __init__(self, account: Account) -> None:
        self.client = account.client("logs")
        mark = uuid.uuid4().hex[:8]
        self.groups = {name: f"/aws/lambda/{name}-{mark}" for name in ("Api", "Worker", "Unused")}
        for name in ("Api", "Worker"):
            self.client.create_log_group(logGroupName=self.groups[name])
            self.client.create_log_stream(logGroupName=self.groups[name], logStreamName="s")

    def put(self, function: str, *lines: tuple[float, dict[str, Any] | str]) -> None:
        self.client.put_log_events(
            logGroupName=self.groups[function],
            logStreamName="s",
            logEvents=[
                {"timestamp": int((NOW + at) * 1000),
                 "message": line if isinstance(line, str) else json.dumps(line)}
                for at, line in sorted(lines, key=lambda each: each[0])
            ],
        )  # fmt: skip


@pytest.fixture
def written(account: Account) -> Written:
    return Written(account)


@pytest.fixture
def logs(account: Account, written: Written) -> StackLogs:
    return StackLogs(account, written.groups, now=lambda: NOW)


def story(written: Written) -> None:
    """A request that published a task, which ran in a batch with a task of another request."""
    written.put(
        "Api",
        (-60, "START RequestId: request-1 Version: $LATEST"),
        (-59.9, {"logger": "twolane", "event": "task.published", "taskId": "task-1",
                 "taskName": "send", "requestId": "request-1", "queue": "tasks"}),
        (-59.8, "REPORT RequestId: request-1\tDuration: 9.00 ms\tBilled Duration: 9 ms\t"),
        (-50, {"logger": "twolane", "event": "task.published", "taskId": "task-2",
               "taskName": "send", "requestId": "request-2", "queue": "tasks"}),
    )  # fmt: skip
    both = {"taskName": "send", "requestId": "batch-1", "queue": "tasks"}
    one = {"taskId": "task-1", "originRequestId": "request-1", **both}
    other = {"taskId": "task-2", "originRequestId": "request-2", **both}
    written.put(
        "Worker",
        (-59, "START RequestId: batch-1 Version: $LATEST"),
        (-58, {"logger": "twolane.worker", "event": "task.started", **one}),
        (-57, {"logger": "twolane.worker", "event": "task.succeeded", "durationMs": 9.5, **one}),
        (-49, {"logger": "twolane.worker", "event": "task.started", **other}),
        (-48, "REPORT RequestId: batch-1\tDuration: 11000.00 ms\tBilled Duration: 11000 ms\t"),
    )  # fmt: skip


@pytest.mark.parametrize("identifier", ["request-1", "task-1"])
def test_from_any_id_to_all_that_belongs_to_it(
    logs: StackLogs, written: Written, identifier: str
) -> None:
    story(written)
    found = logs.about(identifier, start=NOW - 3600)
    assert [(event.kind, event.function) for event in found] == [
        ("invocation.started", "Api"),
        ("task.published", "Api"),
        ("invocation.ended", "Api"),
        ("invocation.started", "Worker"),
        ("task.started", "Worker"),
        ("task.succeeded", "Worker"),
        ("invocation.ended", "Worker"),
    ]
    assert {event.task_id for event in found} == {None, "task-1"}


def test_nothing_has_an_unknown_id(logs: StackLogs, written: Written) -> None:
    story(written)
    assert logs.about("request-9", start=NOW - 3600) == []


def test_what_was_since_a_time_and_of_one_function(logs: StackLogs, written: Written) -> None:
    story(written)
    assert len(logs.since(NOW - 3600)) == 9
    assert len(logs.since(NOW - 3600, function="Worker")) == 5
    assert [event.task_id for event in logs.since(NOW - 52)] == ["task-2", "task-2", None]


def test_a_follower_shows_each_line_once_however_late_it_comes(
    account: Account, written: Written
) -> None:
    clock = [NOW]
    later = [
        [(1.0, "first")],
        [(4.0, "third"), (0.5, "late")],
        [(40.0, "fourth")],
    ]

    def wait(seconds: float) -> None:
        clock[0] += seconds
        if later:
            written.put("Worker", *later.pop(0))

    written.put("Worker", (-1.0, "before"))
    logs = StackLogs(account, written.groups, now=lambda: clock[0], wait=wait)
    lines = [event.data["line"] for event in islice(logs.follow(), 4)]
    assert lines == ["first", "late", "third", "fourth"]


def test_an_id_narrows_the_search_only_where_it_is_whole() -> None:
    whole = "5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11"
    assert id_pattern(whole) == f'"{whole}"'
    assert id_pattern("5f0c1c1e") == id_pattern('" or anything') == id_pattern("") == ""
