from __future__ import annotations

from datetime import UTC, datetime

import pytest

from twolane_local.aws.scheduler.expressions import ExpressionError, parse_expression


def instant(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def following(text: str, zone: str, after: str, count: int) -> list[str]:
    expression = parse_expression(text, zone)
    at: float | None = instant(after)
    found = []
    while len(found) < count and at is not None:
        at = expression.after(at, start=instant(after))
        if at is not None:
            found.append(datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("rate(1 minute)", 60),
        ("rate(5 minutes)", 300),
        ("rate(1 hour)", 3_600),
        ("rate(12 hours)", 43_200),
        ("rate(1 day)", 86_400),
        ("rate(7 days)", 604_800),
    ],
)
def test_rates(text: str, seconds: int) -> None:
    rate = parse_expression(text)
    assert rate.after(999.0, start=1000.0) == 1000.0
    assert rate.after(1000.0, start=1000.0) == 1000.0 + seconds
    assert rate.after(1000.0 + 2.5 * seconds, start=1000.0) == 1000.0 + 3 * seconds


def test_a_rates_day_is_24_hours_long_over_a_clock_change() -> None:
    assert following("rate(1 day)", "Europe/Berlin", "2026-03-28T12:00:00+01:00", 2) == [
        "2026-03-29 11:00:00",
        "2026-03-30 11:00:00",
    ]


def test_a_time_that_does_not_exist_is_skipped() -> None:
    """Clocks go from 02:00 to 03:00 on 29 March 2026 in Berlin."""
    assert following("cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-27T12:00:00Z", 3) == [
        "2026-03-28 01:30:00",
        "2026-03-30 00:30:00",
        "2026-03-31 00:30:00",
    ]


def test_a_time_that_comes_twice_runs_once() -> None:
    """Clocks go from 03:00 back to 02:00 on 25 October 2026 in Berlin."""
    assert following("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-23T12:00:00Z", 3) == [
        "2026-10-24 00:30:00",
        "2026-10-25 00:30:00",
        "2026-10-26 01:30:00",
    ]


def test_asked_inside_the_repeated_hour_it_does_not_repeat() -> None:
    assert following("cron(0/30 * * * ? *)", "Europe/Berlin", "2026-10-25T01:10:00Z", 2) == [
        "2026-10-25 02:00:00",
        "2026-10-25 02:30:00",
    ]


def test_at_is_once_in_its_time_zone() -> None:
    at = parse_expression("at(2026-07-01T09:00:00)", "America/New_York")
    due = instant("2026-07-01T13:00:00Z")
    assert not at.recurring
    assert at.after(due - 1, start=0) == due
    assert at.after(due, start=0) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "every day", "rate()", "rate(0 minutes)", "rate(-1 minutes)", "rate(1.5 hours)",
        "rate(1 second)", "rate(1 week)", "rate(minute)", "at(2026-07-01)", "at(tomorrow)",
        "at(2026-07-01T09:00:00Z)", "at(2026-02-30T09:00:00)", "cron(0 10 * * ? *",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ExpressionError, match="is not a time zone"):
        parse_expression("cron(0 10 * * ? *)", zone)
