from __future__ import annotations

from typing import Any

import pytest

from twolane_local.inspect.tally import percentile, tally
from twolane_local.journal import Event


def events(*steps: tuple[str, str, dict[str, Any]]) -> list[Event]:
    return [
        Event(number, 100.0 + number, f"task.{kind}", task_id=task or None, request_id="r-1",
              data={"taskName": "send", **data})
        for number, (kind, task, data) in enumerate(steps)
    ]  # fmt: skip


def test_a_task_that_fails_once_and_then_succeeds() -> None:
    counted = tally(
        events(
            ("published", "a", {}),
            ("started", "a", {}),
            ("published", "a", {}),  # the retry's message, before the attempt is told to have ended
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
    counted = tally(events(*[(kind, "a", data) for kind, data in steps]))
    assert (counted.runs["a"].state, counted.runs["a"].error) == (state, error)
    assert counted.counts["send"].running == (state == "running")


def test_what_says_neither_id_nor_name_still_counts() -> None:
    nameless = Event(1, 1.0, "task.rejected", data={})
    counted = tally([nameless, Event(2, 2.0, "log", data={"line": "x"})])
    assert counted.counts["unknown"].failed == 1
    assert counted.runs == {}


def test_a_later_line_without_a_name_counts_for_the_task() -> None:
    first, second = events(("started", "a", {}), ("failed", "a", {}))
    nameless = Event(second.seq, second.at, second.kind, task_id="a")
    assert tally([first, nameless]).counts["send"].failed == 1


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, None), ([7], 95, 7), ([3, 1, 2], 50, 2), (list(range(1, 101)), 95, 95)],
)
def test_percentiles_are_of_the_nearest_rank(
    values: list[float], percent: float, expected: float | None
) -> None:
    assert percentile(values, percent) == expected
