from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.aws.scheduler.schedule import from_spec
from twolane_local.aws.scheduler.targets import Firing, dead_letter, payload
from twolane_local.model import ScheduleSpec

AT = 1_767_250_800.0  # 2026-01-01T07:00:00Z
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:beat"


def firing(**fields: Any) -> Firing:
    spec = ScheduleSpec("tick", "rate(1 minute)", FUNCTION, **fields)
    return Firing(from_spec(spec, now=AT), AT, "d32c5kddcf5bb8c3", attempt=2)


def test_scheduler_without_an_input() -> None:
    assert json.loads(payload(firing())) == {
        "version": "0",
        "id": "d32c5kddcf5bb8c3",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": "123456789012",
        "time": "2026-01-01T07:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:scheduler:us-east-1:123456789012:schedule/default/tick"],
        "detail": "{}",
    }


def test_a_rule_without_an_input() -> None:
    assert json.loads(payload(firing(source="rule"))) == {
        "version": "0",
        "id": "d32c5kddcf5bb8c3",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-01-01T07:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/tick"],
        "detail": {},
    }


@pytest.mark.parametrize("source", ["scheduler", "rule"])
def test_an_input_is_passed_as_it_is(source: str) -> None:
    text = '{"a":  1, "b": "ü"}'
    assert payload(firing(source=source, input=text)) == text


def test_context_attributes() -> None:
    text = json.dumps(
        {
            "arn": "<aws.scheduler.schedule-arn>",
            "time": "<aws.scheduler.scheduled-time>",
            "id": "<aws.scheduler.execution-id>",
            "attempt": "<aws.scheduler.attempt-number>",
        }
    )
    assert json.loads(payload(firing(input=text))) == {
        "arn": "arn:aws:scheduler:us-east-1:123456789012:schedule/default/tick",
        "time": "2026-01-01T07:00:00Z",
        "id": "d32c5kddcf5bb8c3",
        "attempt": "2",
    }


def test_a_rule_knows_no_context_attributes() -> None:
    text = '"<aws.scheduler.scheduled-time>"'
    assert payload(firing(source="rule", input=text)) == text


def test_why_a_dead_letter_is_one() -> None:
    why = dead_letter(firing(), code="QueueGone", message="no", condition="MaximumRetryAttempts")
    assert why == {
        "ERROR_CODE": "QueueGone",
        "ERROR_MESSAGE": "no",
        "EXECUTION_ID": "d32c5kddcf5bb8c3",
        "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts",
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": "1",
        "SCHEDULED_TIME": "2026-01-01T07:00:00Z",
        "SCHEDULE_ARN": "arn:aws:scheduler:us-east-1:123456789012:schedule/default/tick",
        "TARGET_ARN": FUNCTION,
    }
