"""The guard's own arithmetic; ``semantics/test_descent.py`` runs it through SQS and a store."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from twolane.errors import ConfigurationError, RunawayError
from twolane.worker.descent import Descent
from twolane.worker.records import Record, Run, open_run

from .conftest import QUEUE_ARN, body

NOW = 1_800_000_000.0


def opened(sent: float | None = NOW, **headers: Any) -> Run:
    attributes = {} if sent is None else {"SentTimestamp": str(round(sent * 1000))}
    text = body("shop.add", task_id="t", ignore_result=True, **headers)
    return open_run(Record("m", "r", text, QUEUE_ARN, attributes), lambda text: text)


def descent(**settings: Any) -> Descent:
    app = Celery("shop", set_as_current=False)
    app.conf.update(settings)
    return Descent(app, lambda: NOW + 5)


TEN = {"twolane_max_depth": 10, "twolane_max_depth_rate": 60}


def test_a_first_task_has_no_headers_and_its_child_is_one_deep() -> None:
    assert descent().following({}) == {"twolane_depth": 1, "twolane_depth_since": NOW + 5}


def test_a_window_lasts_for_as_many_generations_as_are_allowed() -> None:
    guard = descent(**TEN)
    of = {
        depth: guard.following({"twolane_depth": depth, "twolane_depth_since": NOW})
        for depth in (1, 9, 10, 11)
    }
    assert of[1] == {"twolane_depth": 2, "twolane_depth_since": NOW}
    assert of[9] == {"twolane_depth": 10, "twolane_depth_since": NOW}
    assert of[10] == {"twolane_depth": 11, "twolane_depth_since": NOW + 5}
    assert of[11] == {"twolane_depth": 12, "twolane_depth_since": NOW}


@pytest.mark.parametrize(
    ("depth", "seconds", "refused"),
    [
        (10, 9.9, True),
        (20, 0.0, True),
        (10, 10.0, False),  # as fast as is allowed
        (9, 0.0, False),
        (11, 0.0, False),  # its parent was let go on
        (10, 86_400.0, False),
    ],
)
def test_deep_and_fast_together_are_refused(depth: int, seconds: float, refused: bool) -> None:
    one = opened(NOW + seconds, twolane_depth=depth, twolane_depth_since=NOW)
    guard = descent(**TEN)
    if not refused:
        guard.check(one)
        return
    with pytest.raises(RunawayError, match=rf"shop.add is task {depth + 1} .*twolane_max_depth"):
        guard.check(one)


def test_a_message_that_was_not_sent_by_sqs_is_let_through() -> None:
    descent(**TEN).check(opened(None, twolane_depth=10, twolane_depth_since=NOW))


@pytest.mark.parametrize("off", ["twolane_max_depth", "twolane_max_depth_rate"])
def test_nought_turns_it_off(off: str) -> None:
    guard = descent(**{**TEN, off: 0})
    headers = {"twolane_depth": 10, "twolane_depth_since": NOW}
    guard.check(opened(**headers))
    assert guard.following(headers) == {}


@pytest.mark.parametrize("depth", ["10", None, True, -10, 10.0, [10], {}])
def test_a_depth_that_is_none_of_ours_begins_anew(depth: Any) -> None:
    headers = {"twolane_depth": depth, "twolane_depth_since": NOW}
    guard = descent(**TEN)
    guard.check(opened(**headers))
    assert guard.following(headers) == {"twolane_depth": 1, "twolane_depth_since": NOW + 5}


@pytest.mark.parametrize("since", ["yesterday", None, {}, float("nan"), float("inf"), 10**400, -1])
def test_nor_does_a_time_that_is_none(since: Any) -> None:
    one = opened(twolane_depth=10, twolane_depth_since=since)
    descent(**TEN).check(one)


@pytest.mark.parametrize("value", [-1, "many", None, True])
def test_a_setting_that_is_no_number_is_said(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="twolane_max_depth must be a number from 0 on"):
        descent(twolane_max_depth=value)
