"""A schedule as Scheduler's API shows it: pure functions to JSON values, times as numbers.

https://docs.aws.amazon.com/scheduler/latest/APIReference/API_GetSchedule.html
https://docs.aws.amazon.com/scheduler/latest/APIReference/API_ListSchedules.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.schedules.schedule import ACCOUNT, REGION

if TYPE_CHECKING:
    from twolane_local.schedules.schedule import Schedule


def describe(schedule: Schedule) -> dict[str, Any]:
    """The whole of it, absent fields left out."""
    target = schedule.target
    window: dict[str, Any] = {"Mode": "OFF"}
    if schedule.window_s:
        minutes = int(schedule.window_s // 60)
        window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes}
    whole = {
        **_head(schedule),
        "ActionAfterCompletion": "DELETE" if schedule.delete_when_complete else "NONE",
        "Description": schedule.description,
        "StartDate": schedule.start,
        "EndDate": schedule.end,
        "FlexibleTimeWindow": window,
        "ScheduleExpression": schedule.text,
        "ScheduleExpressionTimezone": schedule.timezone,
        "Target": {
            **target.raw,
            "RetryPolicy": {
                "MaximumEventAgeInSeconds": int(target.age_s),
                "MaximumRetryAttempts": target.retries,
            },
        },
    }
    return {name: value for name, value in whole.items() if value is not None}


def summarise(schedule: Schedule) -> dict[str, Any]:
    """What a list shows of it."""
    return {**_head(schedule), "Target": {"Arn": schedule.target.arn}}


def group_arn(name: str) -> str:
    """The ARN of a schedule group."""
    return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/{name}"


def group_json(name: str, created: float) -> dict[str, Any]:
    """A schedule group."""
    return {
        "Arn": group_arn(name),
        "Name": name,
        "State": "ACTIVE",
        "CreationDate": created,
        "LastModificationDate": created,
    }


def _head(schedule: Schedule) -> dict[str, Any]:
    return {
        "Arn": schedule.arn,
        "Name": schedule.name,
        "GroupName": schedule.group,
        "State": "ENABLED" if schedule.enabled else "DISABLED",
        "CreationDate": schedule.created,
        "LastModificationDate": schedule.modified,
    }
