"""``beat_schedule`` as EventBridge Scheduler schedules, one for each entry: for those who want no
tick.

Each schedule invokes the beat function with the entry's name and the slot; the function sends the
task, once a slot, as it does at a tick. What Scheduler cannot say (seconds, ``solar``, a day that
must match both of two fields, schedule classes of one's own) is refused by name.

Scheduler and Celery differ where clocks change: Celery runs an entry whose time does not exist an
hour later, Scheduler skips it. https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from celery.schedules import crontab

from twolane.beat.entries import read_entries
from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

    from twolane.beat.entries import Entry

SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def as_template(app: Celery) -> dict[str, Any]:
    """A CloudFormation template, to nest in one's own; its parameter is the beat function's ARN.

    Raises ``ConfigurationError`` that names every entry which Scheduler cannot express.
    """
    schedules: dict[str, Any] = {}
    refused: list[str] = []
    for name, entry in sorted(read_entries(app).items()):
        try:
            schedules[_logical_id(name, schedules)] = _schedule(entry, str(app.timezone))
        except ConfigurationError as error:
            refused.append(str(error))
    if refused:
        raise ConfigurationError(
            "EventBridge Scheduler cannot express these entries; keep the tick, or change them:\n"
            + "\n".join(f"  {reason}" for reason in refused)
        )
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "One schedule for each entry of beat_schedule, made by `twolane schedules`",
        "Parameters": {
            "BeatFunctionArn": {"Type": "String", "Description": "The beat function's ARN"},
            "PermissionsBoundary": {
                "Type": "String",
                "Default": "",
                "Description": "The policy that bounds the role, where the deployer must have one",
            },
        },
        "Conditions": {
            "IsBounded": {"Fn::Not": [{"Fn::Equals": [{"Ref": "PermissionsBoundary"}, ""]}]}
        },
        "Resources": {"ScheduleRole": _role(), **schedules},
    }


def expression(entry: Entry) -> str:
    """An entry's schedule in Scheduler's words; raises ``ConfigurationError`` if it has none."""
    if isinstance(entry.schedule, crontab):
        return _cron(entry.name, entry.schedule)
    every = entry.slots.interval_s
    if every is None:
        raise ConfigurationError(
            f"{entry.name}: {entry.schedule!r} is neither interval nor crontab"
        )
    for unit, seconds in _UNITS:
        if every % seconds == 0:
            count = int(every // seconds)
            return f"rate({count} {unit}{'s' if count > 1 else ''})"
    raise ConfigurationError(f"{entry.name}: {every} s are not whole minutes")


def _schedule(entry: Entry, timezone: str) -> dict[str, Any]:
    asked = {"twolane": {"entry": entry.name, "slot": SCHEDULED_TIME}}
    return {
        "Type": "AWS::Scheduler::Schedule",
        "Properties": {
            "Description": f"beat_schedule: {entry.name}"[:512],
            "ScheduleExpression": expression(entry),
            "ScheduleExpressionTimezone": timezone,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {
                "Arn": {"Ref": "BeatFunctionArn"},
                "RoleArn": {"Fn::GetAtt": ["ScheduleRole", "Arn"]},
                "Input": json.dumps(asked),
            },
        },
    }


def _role() -> dict[str, Any]:
    """Scheduler's rights: invoke this one function, for schedules of this account."""
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "PermissionsBoundary": {
                "Fn::If": ["IsBounded", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]
            },
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": "sts:AssumeRole",
                        "Principal": {"Service": "scheduler.amazonaws.com"},
                        "Condition": {
                            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
                        },
                    }
                ],
            },
            "Policies": [
                {
                    "PolicyName": "tick",
                    "PolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {
                                "Effect": "Allow",
                                "Action": "lambda:InvokeFunction",
                                "Resource": {"Ref": "BeatFunctionArn"},
                            }
                        ],
                    },
                }
            ],
        },
    }


def _logical_id(name: str, taken: Iterable[str]) -> str:
    """Letters and digits, as CloudFormation wants them, and no two the same."""
    words = re.findall(r"[A-Za-z0-9]+", name)
    base = "".join(word[0].upper() + word[1:] for word in words)[:240] or "Entry"
    found, number = f"{base}Schedule", 2
    while found in taken:
        found, number = f"{base}{number}Schedule", number + 1
    return found


def _cron(name: str, source: Any) -> str:
    days, weekdays = set(source.day_of_month), set(source.day_of_week)
    any_day, any_weekday = len(days) == 31, len(weekdays) == 7
    if any_weekday:
        day_of_month, day_of_week = _numbers(days, 1, 31), "?"
    elif any_day:
        day_of_month, day_of_week = "?", _numbers({day + 1 for day in weekdays}, 1, 7)
    else:
        # Celery wants both to match, Scheduler takes only one; the nth weekday is both in one.
        # ``{8, …, 14}`` holds exactly the second of each weekday.
        first = min(days)
        nth = first // 7 + 1 if first % 7 == 1 and days == set(range(first, first + 7)) else None
        if nth is None or len(weekdays) != 1:
            raise ConfigurationError(
                f"{name}: Celery wants day of month and day of week both to match; "
                "Scheduler takes one of them"
            )
        day_of_month, day_of_week = "?", f"{weekdays.pop() + 1}#{nth}"
    fields = (
        _numbers(source.minute, 0, 59),
        _numbers(source.hour, 0, 23),
        day_of_month,
        _numbers(source.month_of_year, 1, 12),
        day_of_week,
        "*",
    )
    return f"cron({' '.join(fields)})"


def _numbers(values: Iterable[int], low: int, high: int) -> str:
    """``*``, or a list with runs of three and more as ranges."""
    ordered = sorted(values)
    if ordered == list(range(low, high + 1)):
        return "*"
    parts: list[str] = []
    while ordered:
        run = 1
        while run < len(ordered) and ordered[run] == ordered[0] + run:
            run += 1
        if run >= 3:
            parts.append(f"{ordered[0]}-{ordered[run - 1]}")
        else:
            parts += [str(number) for number in ordered[:run]]
        del ordered[:run]
    return ",".join(parts)
