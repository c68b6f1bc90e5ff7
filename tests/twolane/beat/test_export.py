from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from celery.schedules import crontab, schedule, solar

from twolane.beat.entries import read_entries
from twolane.beat.export import as_template, expression
from twolane.errors import ConfigurationError
from twolane_local.aws.scheduler.expressions import parse_expression


def in_scheduler(bench: Any, when: Any, **conf: Any) -> str:
    app = bench.app({"e": {"task": "t", "schedule": when}}, **conf)
    return expression(read_entries(app)["e"])


EXPRESSIONS = [
    (60, "rate(1 minute)"),
    (300.0, "rate(5 minutes)"),
    (timedelta(hours=1), "rate(1 hour)"),
    (timedelta(minutes=90), "rate(90 minutes)"),
    (timedelta(days=2), "rate(2 days)"),
    (crontab(), "cron(* * * * ? *)"),
    (crontab(hour=7, minute=0), "cron(0 7 * * ? *)"),
    (crontab(minute="*/15", hour="8-17"), "cron(0,15,30,45 8-17 * * ? *)"),
    (crontab(minute=0, hour=9, day_of_week="mon-fri"), "cron(0 9 ? * 2-6 *)"),
    (crontab(minute=0, hour=9, day_of_week="sat,sun"), "cron(0 9 ? * 1,7 *)"),
    (crontab(minute=0, hour=0, day_of_month="1,15"), "cron(0 0 1,15 * ? *)"),
    (crontab(minute=0, hour=0, day_of_month=31, month_of_year="*/3"), "cron(0 0 31 1,4,7,10 ? *)"),
    # The first and the third Monday: Celery's idiom, and Scheduler's.
    (crontab(minute=0, hour=0, day_of_month="1-7", day_of_week="mon"), "cron(0 0 ? * 2#1 *)"),
    (crontab(minute=0, hour=0, day_of_month="15-21", day_of_week=0), "cron(0 0 ? * 1#3 *)"),
]


@pytest.mark.parametrize(("when", "expected"), EXPRESSIONS)
def test_expressions(bench: Any, when: Any, expected: str) -> None:
    assert in_scheduler(bench, when) == expected


@pytest.mark.parametrize("when", [when for when, text in EXPRESSIONS if text.startswith("cron")])
def test_scheduler_and_celery_mean_the_same_minutes(bench: Any, when: Any) -> None:
    app = bench.app({"e": {"task": "t", "schedule": when}}, timezone="America/New_York")
    entry = read_entries(app)["e"]
    theirs = parse_expression(expression(entry), "America/New_York")
    # From April on: before the summer's end no clock changes, where the two differ.
    at = bench.instant("2026-04-01T00:00:00Z")
    for _ in islice(range(1000), 300):
        ours = entry.slots.after(at)
        assert ours == theirs.after(at, start=at)
        assert ours is not None
        if ours > bench.instant("2026-10-31T00:00:00Z"):
            break
        at = ours


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (30, "not whole minutes"),
        (schedule(timedelta(hours=1), relative=True), "neither interval nor crontab"),
        (solar("sunset", 52.52, 13.405), "neither interval nor crontab"),
        (crontab(day_of_month=13, day_of_week="fri"), "both to match"),
        (crontab(day_of_month="1-7", day_of_week="mon,tue"), "both to match"),
    ],
)
def test_what_scheduler_cannot_say_is_named(bench: Any, when: Any, reason: str) -> None:
    app = bench.app({"strange": {"task": "t", "schedule": when}})
    with pytest.raises(ConfigurationError, match=f"strange: .*{reason}"):
        as_template(app)


def test_all_that_cannot_be_said_is_said_at_once(bench: Any) -> None:
    app = bench.app({name: {"task": "t", "schedule": 30} for name in ("one", "two")})
    with pytest.raises(ConfigurationError, match=r"(?s)one: .*two: "):
        as_template(app)


def test_a_schedule(bench: Any) -> None:
    entries = {"daily digest": {"task": "t", "schedule": crontab(hour=7, minute=0)}}
    made = as_template(bench.app(entries, timezone="Europe/Berlin"))
    assert made["Resources"]["DailyDigestSchedule"] == {
        "Type": "AWS::Scheduler::Schedule",
        "Properties": {
            "Description": "beat_schedule: daily digest",
            "ScheduleExpression": "cron(0 7 * * ? *)",
            "ScheduleExpressionTimezone": "Europe/Berlin",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": {"Ref": "BeatFunctionArn"},
                "RoleArn": {"Fn::GetAtt": ["ScheduleRole", "Arn"]},
                "Input": json.dumps(
                    {
                        "twolane": {
                            "entry": "daily digest",
                            "slot": "<aws.scheduler.scheduled-time>",
                        }
                    }
                ),
            },
        },
    }


def test_logical_ids_are_letters_and_digits_and_no_two_the_same(bench: Any) -> None:
    names = ("daily-digest", "daily.digest", "Daily digest", "täglich", "!")
    app = bench.app({name: {"task": "t", "schedule": 60} for name in names})
    ids = [each for each in as_template(app)["Resources"] if each != "ScheduleRole"]
    assert len(set(ids)) == 5
    assert all(each.isascii() and each.isalnum() for each in ids)


def test_the_slot_that_scheduler_fills_in_is_understood(bench: Any) -> None:
    """From the template to the message: the input as Scheduler sends it, to the handler."""
    app = bench.app({"digest": {"task": "shop.report", "schedule": crontab(hour=7, minute=0)}})
    target = as_template(app)["Resources"]["DigestSchedule"]["Properties"]["Target"]
    at = datetime(2026, 1, 1, 7, tzinfo=UTC)
    text = target["Input"].replace("<aws.scheduler.scheduled-time>", f"{at:%Y-%m-%dT%H:%M:%SZ}")
    bench.now = at.timestamp() + 20
    published = bench.handler(app)(json.loads(text), None)["published"]
    assert [each["slot"] for each in published] == ["2026-01-01T07:00:00Z"]
