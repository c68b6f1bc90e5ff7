from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from celery import states

from twolane.http.tasks import TaskProblem, TaskStatus, from_meta

DONE = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("meta", "status"),
    [
        ({"status": "PENDING", "result": None}, TaskStatus(id="t", state="PENDING")),
        (
            {"status": "STARTED", "result": {"pid": 1}, "name": "shop.add", "retries": 0},
            TaskStatus(
                id="t", state="STARTED", name="shop.add", progress=None, attempts=1,
            ),
        ),
        (
            {"status": "PROGRESS", "result": {"current": 3, "total": 9}, "retries": 1},
            TaskStatus(id="t", state="PROGRESS", progress={"current": 3, "total": 9}, attempts=2),
        ),
        (
            {"status": "RETRY", "result": ConnectionError("later"), "retries": 1},
            TaskStatus(
                id="t", state="RETRY", attempts=2,
                error=TaskProblem(title="ConnectionError", detail="later"),
            ),
        ),
        (
            {"status": "SUCCESS", "result": [1, 2], "retries": 0, "date_done": DONE},
            TaskStatus(
                id="t", state="SUCCESS", result=[1, 2], attempts=1,
                finished_at="2026-03-01T00:00:00+00:00",
            ),
        ),
        (
            {"status": "FAILURE", "result": "unreadable", "date_done": "2026-03-01T00:00:00"},
            TaskStatus(
                id="t", state="FAILURE", attempts=1, finished_at="2026-03-01T00:00:00",
                error=TaskProblem(title="Error", detail="unreadable"),
            ),
        ),
        (
            {"status": "REVOKED", "result": ValueError("revoked"), "date_done": DONE},
            TaskStatus(
                id="t", state="REVOKED", attempts=0, finished_at="2026-03-01T00:00:00+00:00",
                error=TaskProblem(title="ValueError", detail="revoked"),
            ),
        ),
    ],
)  # fmt: skip
def test_a_results_meta_data_as_a_resource(meta: dict[str, Any], status: TaskStatus) -> None:
    assert from_meta("t", meta) == status


@pytest.mark.parametrize("state", sorted(states.ALL_STATES))
def test_finished_is_what_celery_calls_ready(state: str) -> None:
    assert TaskStatus(id="t", state=state).finished is (state in states.READY_STATES)
