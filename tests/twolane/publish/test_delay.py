from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from twolane.publish.message import delay_seconds

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("eta", "seconds"),
    [
        (None, 0),
        ((NOW - timedelta(seconds=5)).isoformat(), 0),
        (NOW.isoformat(), 0),
        ((NOW + timedelta(seconds=1.2)).isoformat(), 2),
        ((NOW + timedelta(seconds=900)).isoformat(), 900),
        ((NOW + timedelta(days=3)).isoformat(), 900),
        ("2026-03-01T12:00:30Z", 30),
        ("0001-01-01T00:00:00+14:00", 0),
        ("9999-12-31T23:59:59.999999-14:00", 900),
        ((NOW + timedelta(seconds=60)).astimezone(timezone(timedelta(hours=5.5))).isoformat(), 60),
        pytest.param("2026-03-01T12:00:30", 0, id="naive: only the worker knows the zone"),
        pytest.param("tomorrow", 0, id="not a date: the worker rejects it by name"),
    ],
)
def test_an_eta_becomes_whole_seconds_rounded_up(eta: Any, seconds: int) -> None:
    assert delay_seconds(eta, now=NOW.timestamp()) == seconds
