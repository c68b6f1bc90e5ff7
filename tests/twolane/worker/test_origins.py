"""What a task publishes says when that task was sent; nobody else's messages do."""

from __future__ import annotations

from typing import Any

import pytest

from twolane.worker import lease as origins
from twolane.worker.lease import ORIGIN, Delivery, Ending, LeaseState, ending, write_lease


def running(sent_s: float) -> Ending:
    held = write_lease(LeaseState.RUNNING, Delivery("h", "m", "p", sent_s), since=1.0, until=2.0)
    return Ending("t1", "key", held, lambda: held, 60.0)


@pytest.mark.parametrize(
    ("sent_s", "headers"),
    [(1000.5, {ORIGIN: 1000.5}), (float("inf"), {})],
)
def test_a_running_task_marks_what_it_publishes(sent_s: float, headers: dict[str, Any]) -> None:
    token = ending.set(running(sent_s))
    try:
        marked: dict[str, Any] = {}
        origins._mark(headers=marked)
    finally:
        ending.reset(token)
    assert marked == headers


def test_what_is_published_elsewhere_is_left_as_it_is() -> None:
    headers: dict[str, Any] = {}
    origins._mark(headers=headers)
    assert headers == {}
