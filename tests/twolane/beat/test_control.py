from __future__ import annotations

from typing import Any

import pytest
from celery.schedules import crontab

from twolane.errors import ConfigurationError

DAILY: dict[str, Any] = {"task": "shop.report", "schedule": crontab(hour=7, minute=0), "args": (5,)}


def test_list(bench: Any) -> None:
    handler = bench.handler(bench.app({"digest": DAILY}), missed="skip")
    [entry] = handler({"twolane": {"list": 2}}, None)["entries"]
    assert entry["name"] == "digest"
    assert entry["missed"] == "skip"
    assert entry["next"] == ["2026-01-01T07:00:00Z", "2026-01-02T07:00:00Z"]


def test_the_list_is_bounded(bench: Any) -> None:
    handler = bench.handler(bench.app({"digest": DAILY}))
    [entry] = handler({"twolane": {"list": 10**9}}, None)["entries"]
    assert len(entry["next"]) == 100


def test_run_sends_one_now_beside_the_schedule(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    handler = bench.handler(app)
    answer = handler({"twolane": {"run": "digest"}}, None)
    [message] = bench.messages(app)
    assert answer == {
        "entry": "digest",
        "slot": "2026-01-01T00:00:00Z",
        "taskId": message.headers["id"],
    }
    assert message.payload[0] == [5]
    assert bench.tick(handler, "2026-01-01T07:00:00Z") == [("digest", "2026-01-01T07:00:00Z")]


def test_run_twice_sends_two(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    handler = bench.handler(app)
    ids = {handler({"twolane": {"run": "digest"}}, None)["taskId"] for _ in range(2)}
    assert {each.headers["id"] for each in bench.messages(app)} == ids
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"run": "gone"}, "it has: digest"),
        ({"stop": True}, "can list and run, not stop"),
        ({}, "not that"),
    ],
)
def test_what_is_not_known_is_said(bench: Any, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        bench.handler(bench.app({"digest": DAILY}))({"twolane": asked}, None)
