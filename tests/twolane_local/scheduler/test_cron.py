"""Against the tables and the examples of AWS's pages, and against a slow and simple reading.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

import pytest

from twolane_local.aws.scheduler.expressions import ExpressionError, parse_cron

START = datetime.fromisoformat("2026-01-01")  # a Thursday; wall-clock time, of no zone


def following(fields: str, count: int = 4, start: datetime = START) -> list[str]:
    moments = parse_cron(fields).after(start - timedelta(minutes=1))
    return [f"{moment:%a %Y-%m-%d %H:%M}" for moment in islice(moments, count)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # The examples of the rule page, in its order.
        ("0 10 * * ? *", ["Thu 2026-01-01 10:00", "Fri 2026-01-02 10:00"]),
        ("15 12 * * ? *", ["Thu 2026-01-01 12:15", "Fri 2026-01-02 12:15"]),
        (
            "0 18 ? * MON-FRI *",
            ["Thu 2026-01-01 18:00", "Fri 2026-01-02 18:00", "Mon 2026-01-05 18:00"],
        ),
        ("0 8 1 * ? *", ["Thu 2026-01-01 08:00", "Sun 2026-02-01 08:00"]),
        (
            "0/15 * * * ? *",
            ["Thu 2026-01-01 00:00", "Thu 2026-01-01 00:15", "Thu 2026-01-01 00:30"],
        ),
        ("0/10 * ? * MON-FRI *", ["Thu 2026-01-01 00:00", "Thu 2026-01-01 00:10"]),
        ("0/5 8-17 ? * MON-FRI *", ["Thu 2026-01-01 08:00", "Thu 2026-01-01 08:05"]),
        # Hours that wrap: "from 12:00 AM to 2:00 AM on Monday morning" as well.
        (
            "0/30 20-2 ? * MON-FRI *",
            [
                "Thu 2026-01-01 00:00", "Thu 2026-01-01 00:30", "Thu 2026-01-01 01:00",
                "Thu 2026-01-01 01:30", "Thu 2026-01-01 02:00", "Thu 2026-01-01 02:30",
                "Thu 2026-01-01 20:00",
            ],
        ),
        # The wildcards of the table, each.
        ("0 0 1 JAN,FEB,MAR ? *", ["Thu 2026-01-01 00:00", "Sun 2026-02-01 00:00"]),
        ("0 0 1-15 * ? *", ["Thu 2026-01-01 00:00", "Fri 2026-01-02 00:00"]),
        ("1/10 * * * ? *", ["Thu 2026-01-01 00:01", "Thu 2026-01-01 00:11"]),
        ("0 0 7 * ? *", ["Wed 2026-01-07 00:00", "Sat 2026-02-07 00:00"]),
        ("0 0 L * ? *", ["Sat 2026-01-31 00:00", "Sat 2026-02-28 00:00"]),
        ("0 0 ? * L *", ["Sat 2026-01-03 00:00", "Sat 2026-01-10 00:00"]),
        ("0 0 ? * 6L *", ["Fri 2026-01-30 00:00", "Fri 2026-02-27 00:00"]),
        ("0 0 ? * FRIL *", ["Fri 2026-01-30 00:00", "Fri 2026-02-27 00:00"]),
        ("0 0 3W * ? *", ["Fri 2026-01-02 00:00", "Tue 2026-02-03 00:00"]),
        ("0 0 ? * 3#2 *", ["Tue 2026-01-13 00:00", "Tue 2026-02-10 00:00"]),
        ("0 0 ? * TUE#2 *", ["Tue 2026-01-13 00:00", "Tue 2026-02-10 00:00"]),
        # Scheduler's page: the last Friday of each month, 2022 to 2023 there.
        ("15 10 ? * 6L 2026-2027", ["Fri 2026-01-30 10:15", "Fri 2026-02-27 10:15"]),
        # Weekdays are numbered from Sunday.
        ("0 0 ? * 1 *", ["Sun 2026-01-04 00:00", "Sun 2026-01-11 00:00"]),
        ("0 0 ? * 7 *", ["Sat 2026-01-03 00:00", "Sat 2026-01-10 00:00"]),
        ("0 0 ? * SUN,WED *", ["Sun 2026-01-04 00:00", "Wed 2026-01-07 00:00"]),
        ("0 0 ? * FRI-MON *", ["Fri 2026-01-02 00:00", "Sat 2026-01-03 00:00"]),
        # W stays in its month: from Saturday the first to the third, from Sunday the 31st back.
        ("0 0 1W 8 ? *", ["Mon 2026-08-03 00:00", "Mon 2027-08-02 00:00"]),
        ("0 0 31W 5 ? *", ["Fri 2026-05-29 00:00", "Mon 2027-05-31 00:00"]),
        ("0 0 LW * ? *", ["Fri 2026-01-30 00:00", "Fri 2026-02-27 00:00"]),
        ("0 0 L-3 * ? *", ["Wed 2026-01-28 00:00", "Wed 2026-02-25 00:00"]),
        # A weekday that a month lacks for the fifth time, a day that it lacks.
        ("0 0 ? * 6#5 *", ["Fri 2026-01-30 00:00", "Fri 2026-05-29 00:00"]),
        ("0 0 31W * ? *", ["Fri 2026-01-30 00:00", "Tue 2026-03-31 00:00"]),
        ("0 0 29 2 ? *", ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]),
        # Years: one, a list, a range, a step.
        ("0 0 1 1 ? 2027", ["Fri 2027-01-01 00:00"]),
        ("0 0 1 1 ? 2027,2030", ["Fri 2027-01-01 00:00", "Tue 2030-01-01 00:00"]),
        ("0 0 1 1 ? 2026/2", ["Thu 2026-01-01 00:00", "Sat 2028-01-01 00:00"]),
        ("0 0 1-9/4 * ? *", ["Thu 2026-01-01 00:00", "Mon 2026-01-05 00:00"]),
        ("0 0 1 jan,mar-may ? *", ["Thu 2026-01-01 00:00", "Sun 2026-03-01 00:00"]),
        ("  0  10 *  * ? * ", ["Thu 2026-01-01 10:00"]),
    ],
)  # fmt: skip
def test_forms(fields: str, expected: list[str]) -> None:
    assert following(fields, len(expected)) == expected


def test_a_leap_day_far_off_is_found() -> None:
    assert following("0 0 29 2 ? *", 1, datetime.fromisoformat("2097-01-01")) == [
        "Fri 2104-02-29 00:00"
    ]


@pytest.mark.parametrize("fields", ["0 0 30 2 ? *", "0 0 31W 2 ? *", "0 0 1 1 ? 2020"])
def test_what_never_comes(fields: str) -> None:
    assert following(fields) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("0 10 * * ?", "five"),
        ("0 0 * * * *", "must be"),
        ("0 0 ? * ? *", "must be"),
        ("0 0 1 * MON *", "must be"),
        ("60 0 * * ? *", "minute"),
        ("-1 0 * * ? *", "minute"),
        ("0 24 * * ? *", "hour"),
        ("0 0 0 * ? *", "day-of-month"),
        ("0 0 32 * ? *", "day-of-month"),
        ("0 0 32W * ? *", "day-of-month"),
        ("0 0 L-31 * ? *", "day-of-month"),
        ("0 0 1,LW * ? *", "day-of-month"),
        ("0 0 1 13 ? *", "month"),
        ("0 0 1 JANUARY ? *", "month"),
        ("0 0 ? * 0 *", "day-of-week"),
        ("0 0 ? * 8 *", "day-of-week"),
        ("0 0 ? * 3#6 *", "day-of-week"),
        # "you can define only one expression in the day-of-week field"
        ("0 0 ? * 3#1,6#3 *", "day-of-week"),
        ("0 0 ? * MON/2 *", "no step"),
        ("0 0 1 ? MON *", "must be"),
        ("0 0 1 1 ? 1969", "year"),
        ("0 0 1 1 ? 2200", "year"),
        ("0/0 0 1 1 ? *", "step"),
        ("0/x 0 1 1 ? *", "step"),
        ("٣ 0 1 1 ? *", "minute"),
    ],
)
def test_refused(fields: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match="fields, not six" if reason == "five" else reason):
        parse_cron(fields)


def test_every_minute_of_two_years_one_by_one() -> None:
    """The same days by another way: look at each day, and ask whether the words fit it."""

    def fits(day: datetime) -> bool:
        last = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        weekdays = [
            last.replace(day=number)
            for number in range(1, last.day + 1)
            if last.replace(day=number).weekday() < 5
        ]
        near = min(
            weekdays,
            key=lambda each: (abs((each - day.replace(day=15)).days), each.day),
        )
        return day.date() == near.date()

    days = [START + timedelta(days=number) for number in range(730)]
    expected = [f"{day:%a %Y-%m-%d %H:%M}" for day in days if fits(day)]
    assert following("0 0 15W * ? 2026-2027", 100) == expected
