from __future__ import annotations

from typing import Any

import pytest

from twolane_local.journal import Event
from twolane_local.journal.task_counts import count_tasks, percentile


def events(*steps: tuple[str, str, dict[str, Any]]) -> list[Event]:
    return [
        Event(number, 100.0 + number, f"task.{kind}", task_id=task or None, request_id="r-1",
              data={"taskName": "send", **data})
        for number, (kind, task, data) in enumerate(steps)
    ]  # fmt: skip


def test_a_task_that_fails_once_and_then_succeeds() -> None:
    counted = count_tasks(
        events(
            ("published", "a", {}),
            ("started", "a", {}),
            ("published", "a", {}),  # the retry's message, before the attempt reports its end
            ("retried", "a", {"durationMs": 30, "errorType": "Timeout"}),
            ("started", "a", {}),
            ("succeeded", "a", {"durationMs": 10}),
        )
    )
    assert counted.counts["send"].as_dict() == {
        "name": "send",
        "counts": {
            "published": 2, "started": 2, "succeeded": 1, "failed": 0, "retried": 1, "running": 0,
        },
        "p50Ms": 10.0,
        "p95Ms": 30.0,
    }  # fmt: skip
    assert counted.runs["a"].as_dict() == {
        "taskId": "a", "name": "send", "at": 100.0, "state": "ok", "attempts": 2,
        "durationMs": 10.0, "requestId": "r-1", "error": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "state", "error"),
    [
        ([("published", {})], "waiting", None),
        ([("published", {}), ("started", {})], "running", None),
        ([("started", {}), ("published", {})], "running", None),
        ([("started", {}), ("failed", {"errorType": "ValueError"})], "failed", "ValueError"),
        ([("started", {}), ("retried", {"errorType": "E"})], "retried", "E"),
        ([("rejected", {})], "failed", None),
        ([("published", {}), ("deferred", {})], "waiting", None),
        ([("revoked", {})], "revoked", None),
    ],
)
def test_states(steps: list[tuple[str, dict[str, Any]]], state: str, error: str | None) -> None:
    counted = count_tasks(events(*[(kind, "a", data) for kind, data in steps]))
    assert (counted.runs["a"].state, counted.runs["a"].error) == (state, error)
    assert counted.counts["send"].running == (state == "running")


def test_what_says_neither_id_nor_name_still_counts() -> None:
    nameless = Event(1, 1.0, "task.rejected", data={})
    counted = count_tasks([nameless, Event(2, 2.0, "log", data={"line": "x"})])
    assert counted.counts["unknown"].failed == 1
    assert counted.runs == {}


def test_a_later_line_without_a_name_counts_for_the_task() -> None:
    first, second = events(("started", "a", {}), ("failed", "a", {}))
    nameless = Event(second.seq, second.at, second.kind, task_id="a")
    assert count_tasks([first, nameless]).counts["send"].failed == 1


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, None), ([7], 95, 7), ([3, 1, 2], 50, 2), (list(range(1, 101)), 95, 95)],
)
def test_percentiles_are_of_the_nearest_rank(
    values: list[float], percent: float, expected: float | None
) -> None:
    assert percentile(values, percent) == expected


def test_a_message_that_is_refused_five_times_is_one_failed_task() -> None:
    steps = [("published", "a", {}), ("started", "a", {}), ("failed", "a", {"errorType": "Reject"})]
    counted = count_tasks(events(*steps, *[("rejected", "a", {})] * 4))
    assert counted.counts["send"].as_dict()["counts"] == {
        "published": 1, "started": 1, "succeeded": 0, "failed": 1, "retried": 0, "running": 0,
    }  # fmt: skip


def test_messages_that_cannot_be_read_count_once_each() -> None:
    refused = [
        Event(number, 100.0, "task.rejected", message_id=message)
        for number, message in enumerate(["m-1", "m-2"] * 3)
    ]
    assert count_tasks(refused).counts["unknown"].failed == 2


def test_a_task_whose_environments_are_killed() -> None:
    def delivery(number: int) -> list[Event]:
        about: dict[str, Any] = {"request_id": f"r-{number}"}
        return [
            Event(number, 100.0, "task.started", task_id="a", message_id="m",
                  data={"taskName": "send"}, **about),
            Event(number, 101.0, "invocation.ended", data={"reason": "killed"}, **about),
        ]  # fmt: skip

    first = delivery(1)
    assert count_tasks(first[:1]).counts["send"].running == 1
    waiting = count_tasks(first)
    assert (waiting.counts["send"].running, waiting.runs["a"].state) == (0, "waiting")
    buried = Event(9, 102.0, "message.dead_lettered", queue="tasks", message_id="m")
    counted = count_tasks([*first, *delivery(2), buried])
    assert (counted.counts["send"].failed, counted.runs["a"].state) == (1, "failed")
