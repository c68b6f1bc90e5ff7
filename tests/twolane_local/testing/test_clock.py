"""Time, moved by the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.testing.clock import seconds_of
from twolane_local.testing.errors import TestingError
from twolane_local.virtual_clock import NEW_YEAR

if TYPE_CHECKING:
    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.mark.parametrize(
    "moment",
    [
        NEW_YEAR + 3600,
        "2026-01-01T01:00:00",
        "2026-01-01T02:00:00+01:00",
        datetime(2026, 1, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 1, 1, 1),  # noqa: DTZ001 - as people write it
    ],
)
def test_a_moment_in_many_ways(moment: Any) -> None:
    assert seconds_of(moment) == NEW_YEAR + 3600


def test_time_runs_forward_only(stack: Twolane) -> None:
    stack.clock.advance(timedelta(minutes=1))
    stack.clock.at("2026-01-01T00:02:00")
    assert stack.clock.now == datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    with pytest.raises(TestingError, match="does not run backwards"):
        stack.clock.at(NEW_YEAR)


def test_what_falls_due_happens_on_time(stack: Twolane, application: Any) -> None:
    stack.client.post("/notes/late?countdown=300")
    stack.client.post("/notes/later?countdown=7200")
    stack.clock.advance(299)
    assert application.calls == []
    stack.clock.advance(7200)
    notes = [(name, at - NEW_YEAR) for name, at in application.calls if name != "hourly"]
    assert [name for name, _ in notes] == ["late", "later"]
    assert notes[0][1] == 300
    assert notes[1][1] == pytest.approx(7200, abs=2)


def test_beat_s_entries_run_as_time_passes(stack: Twolane, application: Any) -> None:
    stack.clock.advance(timedelta(hours=3, minutes=2))
    hours = [round((at - NEW_YEAR) / 3600, 1) for name, at in application.calls if name == "hourly"]
    assert len(hours) == 3
    assert [later - sooner for sooner, later in pairwise(hours)] == [1.0, 1.0]
