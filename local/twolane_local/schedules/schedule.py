"""One schedule, from a template or the Scheduler API, as frozen facts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.schedules.errors import ValidationError
from twolane_local.schedules.expression import Expression, parse_expression

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.model import ScheduleSpec

#: Scheduler's defaults: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html
_RETRIES, _AGE_S = 185, 86_400
ACCOUNT, REGION = "123456789012", "us-east-1"


@dataclass(frozen=True, slots=True)
class Target:
    """What a schedule invokes; ``arn`` is a function's, a queue's, or a universal target's."""

    arn: str
    role_arn: str = ""
    input: str | None = None
    retries: int = _RETRIES
    age_s: float = _AGE_S
    dead_letter_arn: str | None = None
    message_group_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times are epoch seconds; ``origin`` is where a rate counts from."""

    name: str
    text: str
    expression: Expression
    target: Target
    group: str = "default"
    timezone: str = "UTC"
    source: str = "scheduler"
    enabled: bool = True
    start: float | None = None
    end: float | None = None
    window_s: float = 0.0
    delete_when_complete: bool = False
    description: str | None = None
    created: float = 0.0
    modified: float = 0.0

    @property
    def arn(self) -> str:
        if self.source == "rule":
            return f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{self.name}"
        return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{self.group}/{self.name}"

    def after(self, instant: float) -> float | None:
        """The first due time after ``instant``, inside the start and end dates.

        Scheduler starts a rate at once if there is no start date; a rule waits one interval.
        """
        origin = self.created if self.start is None else self.start
        if self.expression.recurring:
            # Start and end dates do not bind one-time schedules:
            # https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
            instant = max(instant, origin - 1e-6 if self._starts_at_once() else origin)
        due = self.expression.after(instant, start=origin)
        if due is None or (self.expression.recurring and self.end is not None and due > self.end):
            return None
        return due

    def _starts_at_once(self) -> bool:
        return self.source == "scheduler"


def from_properties(
    name: str,
    properties: Mapping[str, Any],
    *,
    now: float,
    source: str = "scheduler",
    created: float | None = None,
) -> Schedule:
    """A schedule as CloudFormation and the API describe it: the same names in both.

    Raises ``ValidationError`` that names the field.
    """
    timezone = str(properties.get("ScheduleExpressionTimezone") or "UTC")
    text = str(properties.get("ScheduleExpression") or "")
    window = properties.get("FlexibleTimeWindow") or {"Mode": "OFF"}
    return Schedule(
        name=name,
        text=text,
        expression=parse_expression(text, timezone),
        target=_target(properties.get("Target") or {}, source),
        group=str(properties.get("GroupName") or "default"),
        timezone=timezone,
        source=source,
        enabled=properties.get("State", "ENABLED") == "ENABLED",
        start=_instant("StartDate", properties.get("StartDate")),
        end=_instant("EndDate", properties.get("EndDate")),
        window_s=_window_s(window),
        delete_when_complete=properties.get("ActionAfterCompletion") == "DELETE",
        description=properties.get("Description"),
        created=now if created is None else created,
        modified=now,
    )


def from_spec(spec: ScheduleSpec, *, now: float) -> Schedule:
    """A schedule of the template; raises ``ValidationError`` that names it and the field."""
    options = dict(spec.options)
    target = {**dict(options.get("Target") or {}), "Arn": spec.target_arn}
    if spec.input is not None:
        target["Input"] = spec.input
    properties = {
        **options,
        "ScheduleExpression": spec.expression,
        "ScheduleExpressionTimezone": spec.timezone,
        "State": "ENABLED" if spec.enabled else "DISABLED",
        "Target": target,
    }
    if spec.source == "rule":
        # A rule may have several targets; each is a schedule of its own here.
        properties["GroupName"] = str(target.get("Id") or "default")
    try:
        return from_properties(spec.name, properties, now=now, source=spec.source)
    except ValidationError as error:
        raise type(error)(f"schedule {spec.name}: {error}") from error


def _target(raw: Mapping[str, Any], source: str) -> Target:
    if not raw.get("Arn"):
        raise ValidationError("Target.Arn is missing")
    for field_name in ("InputPath", "InputTransformer"):
        if raw.get(field_name) and source != "rule":
            raise ValidationError(f"Target.{field_name} is of rules, not of schedules")
    retry = raw.get("RetryPolicy") or {}
    text = raw.get("Input")
    return Target(
        arn=str(raw["Arn"]),
        role_arn=str(raw.get("RoleArn") or ""),
        input=text if text is None or isinstance(text, str) else json.dumps(text),
        retries=int(retry.get("MaximumRetryAttempts", _RETRIES)),
        age_s=float(retry.get("MaximumEventAgeInSeconds", _AGE_S)),
        dead_letter_arn=(raw.get("DeadLetterConfig") or {}).get("Arn"),
        message_group_id=(raw.get("SqsParameters") or {}).get("MessageGroupId"),
        raw=dict(raw),
    )


def _window_s(window: Mapping[str, Any]) -> float:
    if window.get("Mode") != "FLEXIBLE":
        return 0.0
    minutes = int(window.get("MaximumWindowInMinutes") or 0)
    if not 1 <= minutes <= 1440:
        raise ValidationError("FlexibleTimeWindow.MaximumWindowInMinutes must be 1 to 1440")
    return minutes * 60.0


def _instant(name: str, value: Any) -> float | None:
    """A date: a number in the API, ISO 8601 text in a template, in UTC."""
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValidationError(f"{name} {value!r} is no date like 2026-01-31T09:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
