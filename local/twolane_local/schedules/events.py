"""What a schedule sends: pure functions from facts to payloads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twolane_local.events.eventbridge import Rule, target_input
from twolane_local.schedules.schedule import ACCOUNT, REGION, Schedule


@dataclass(frozen=True, slots=True)
class Firing:
    """One due time of one schedule, and which attempt this is (from 1)."""

    schedule: Schedule
    at: float
    execution_id: str
    attempt: int = 1


def payload(firing: Firing) -> str:
    """The text that the target gets: its input, or else the default event."""
    target = firing.schedule.target
    if firing.schedule.source == "rule":
        if target.input is not None:
            return target.input
        facts = Rule(firing.schedule.name, firing.schedule.arn, iso(firing.at))
        return target_input(target.raw, rule_event(firing), facts)
    if target.input is None:
        return json.dumps(scheduler_event(firing))
    return with_context(target.input, firing)


def scheduler_event(firing: Firing) -> dict[str, Any]:
    """Scheduler's event where no input is given. Its ``detail`` is the text ``{}``, no object.

    The user guide has no sample; the shape is that of aws/aws-lambda-dotnet#1864.
    """
    return {**_event("aws.scheduler", firing), "detail": "{}"}


def rule_event(firing: Firing) -> dict[str, Any]:
    """A scheduled rule's event.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
    """
    return {**_event("aws.events", firing), "detail": {}}


def with_context(text: str, firing: Firing) -> str:
    """Put the schedule's context attributes into an input.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    """
    attributes = {
        "schedule-arn": firing.schedule.arn,
        "scheduled-time": iso(firing.at),
        "execution-id": firing.execution_id,
        "attempt-number": str(firing.attempt),
    }
    for name, value in attributes.items():
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return text


def dead_letter(
    firing: Firing, *, code: str, message: str, condition: str | None
) -> dict[str, str]:
    """The attributes of the message that says why a target could not be reached.

    ``condition`` is the retry limit that was met, ``None`` where no retry would have helped.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    why = {
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        "RETRY_ATTEMPTS": str(firing.attempt - 1),
        "TARGET_ARN": firing.schedule.target.arn,
    }
    if condition is not None:
        why["EXHAUSTED_RETRY_CONDITION"] = condition
    if firing.schedule.source == "rule":
        return {**why, "RULE_ARN": firing.schedule.arn}
    return {
        **why,
        "EXECUTION_ID": firing.execution_id,
        "IS_PAYLOAD_TRUNCATED": "false",
        "SCHEDULED_TIME": iso(firing.at),
        "SCHEDULE_ARN": firing.schedule.arn,
    }


def iso(instant: float) -> str:
    """Whole seconds in UTC, as AWS writes them: ``2026-01-01T00:00:00Z``."""
    return datetime.fromtimestamp(int(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(source: str, firing: Firing) -> dict[str, Any]:
    return {
        "version": "0",
        "id": firing.execution_id,
        "detail-type": "Scheduled Event",
        "source": source,
        "account": ACCOUNT,
        "time": iso(firing.at),
        "region": REGION,
        "resources": [firing.schedule.arn],
    }
