from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from twolane_local.aws.scheduler.expressions import ValidationError
from twolane_local.aws.scheduler.schedule import from_properties, from_spec
from twolane_local.model import ScheduleSpec

NOW = 1_767_225_600.0
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:beat"


def made(expression: str = "rate(1 minute)", **properties: Any) -> Any:
    whole = {"ScheduleExpression": expression, "Target": {"Arn": FUNCTION}, **properties}
    return from_properties("s", whole, now=NOW)


def test_defaults() -> None:
    schedule = made()
    assert (schedule.group, schedule.timezone, schedule.enabled) == ("default", "UTC", True)
    assert (schedule.target.retries, schedule.target.age_s) == (185, 86_400)
    assert not schedule.delete_when_complete


@pytest.mark.parametrize(
    "value",
    [
        NOW + 90,
        "2026-01-01T00:01:30Z",
        "2026-01-01T00:01:30",
        datetime.fromtimestamp(NOW + 90, UTC),
    ],
)
def test_dates_in_every_form(value: Any) -> None:
    assert made(StartDate=value).start == NOW + 90


def test_a_spec_of_the_template() -> None:
    spec = ScheduleSpec(
        name="tick",
        expression="cron(0 7 * * ? *)",
        target_arn=FUNCTION,
        timezone="Europe/Berlin",
        enabled=False,
        options={
            "GroupName": "mine",
            "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5},
            "Target": {
                "Arn": "resolved later",
                "Input": {"a": 1},
                "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:123456789012:dead"},
            },
        },
    )
    schedule = from_spec(spec, now=NOW)
    assert schedule.arn == "arn:aws:scheduler:us-east-1:123456789012:schedule/mine/tick"
    assert schedule.target.arn == FUNCTION
    assert schedule.target.input == '{"a": 1}'
    assert schedule.window_s == 300
    assert not schedule.enabled


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"Target": {}}, r"Target\.Arn"),
        ({"StartDate": "tomorrow"}, "StartDate"),
        ({"Target": {"Arn": FUNCTION, "InputPath": "$.detail"}}, "InputPath belongs to rules"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 1441}}, "1440"),
    ],
)
def test_refused(properties: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        made(**properties)


def test_a_rate_with_a_start_in_the_past_keeps_its_grid() -> None:
    schedule = made("rate(10 minutes)", StartDate=NOW - 3_900)
    assert schedule.after(NOW) == NOW + 300


def test_the_end_date_is_the_last_moment() -> None:
    schedule = made("rate(10 minutes)", EndDate=NOW + 600)
    assert schedule.after(NOW) == NOW + 600
    assert schedule.after(NOW + 600) is None
