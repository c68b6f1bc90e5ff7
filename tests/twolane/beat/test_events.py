from __future__ import annotations

from typing import Any

import pytest

from twolane.beat.events import Request, Slot, Tick, read_event
from twolane.errors import ConfigurationError

NOW = 1_767_250_830.0  # 2026-01-01T07:00:30Z
RULE = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-01-01T07:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:events:us-east-1:123456789012:rule/my-scheduled-rule"],
    "detail": {},
}


def test_a_rules_event_is_a_tick() -> None:
    assert read_event(RULE, NOW) == Tick(NOW - 30)


def test_schedulers_event_is_a_tick(bench: Any) -> None:
    assert read_event(bench.event("2026-01-01T07:00:00Z"), NOW) == Tick(NOW - 30)


def test_an_event_without_a_time_is_a_tick_now() -> None:
    assert read_event({}, NOW) == Tick(NOW)


@pytest.mark.parametrize("time", ["2015-10-08T16:53:06Z", "2036-01-01T00:00:00Z"])
def test_a_sample_event_does_not_set_the_clock(time: str) -> None:
    assert read_event({**RULE, "time": time}, NOW) == Tick(NOW)


def test_an_entrys_own_event() -> None:
    event = {"twolane": {"entry": "digest", "slot": "2026-01-01T07:00:00Z"}}
    assert read_event(event, NOW) == Slot("digest", NOW - 30)


def test_a_request() -> None:
    assert read_event({"twolane": {"list": 3}}, NOW) == Request({"list": 3})


@pytest.mark.parametrize(
    "event", [None, [], "tick", {"Records": []}, {"requestContext": {}, "version": "2.0"}]
)
def test_what_no_schedule_sends_is_refused(event: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"template\.yaml"):
        read_event(event, NOW)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'soon'"):
        read_event({"time": "soon"}, NOW)
