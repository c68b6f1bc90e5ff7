"""Schedules, from a template or the Scheduler API, and the book that holds them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.aws.scheduler.expressions import (
    ConflictError,
    Expression,
    NotFoundError,
    ValidationError,
    parse_expression,
)
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.model import ScheduleSpec


#: Scheduler's defaults: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html
_RETRIES, _AGE_S = 185, 86_400

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a schedule; ``arn`` is that of a function, a queue or a universal target."""

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
    """One schedule; times are epoch seconds."""

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
    def key(self) -> Key:
        """Unique in the book: a rule and a schedule may have the same name."""
        return self.source, self.group, self.name

    @property
    def arn(self) -> str:
        if self.source == "rule":
            return f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{self.name}"
        return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{self.group}/{self.name}"

    def after(self, instant: float) -> float | None:
        """The first due time after ``instant``, within the start and end dates.

        Scheduler starts a rate without a start date at once; a rule waits one interval.
        """
        origin = self.created if self.start is None else self.start
        if self.expression.recurring:
            # Start and end dates do not bind one-time schedules:
            # https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
            instant = max(instant, origin - 1e-6 if self.source == "scheduler" else origin)
        due = self.expression.after(instant, start=origin)
        if due is None or (self.expression.recurring and self.end is not None and due > self.end):
            return None
        return due


def from_properties(
    name: str,
    properties: Mapping[str, Any],
    *,
    now: float,
    source: str = "scheduler",
    created: float | None = None,
) -> Schedule:
    """A schedule from its properties, which CloudFormation and the API name alike.

    Raises ``ValidationError``, which names the field.
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
    """A schedule of the template; raises ``ValidationError``, which names it and the field."""
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
            raise ValidationError(f"Target.{field_name} belongs to rules, not to schedules")
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
    """Read a date: a number from the API, ISO 8601 text from a template, in UTC."""
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValidationError(
            f"{name} {value!r} is not a date; use a form like 2026-01-31T09:00:00Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class ScheduleBook:
    """All schedules, on the event loop, without a lock. ``changed`` is set at every change."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.groups: dict[str, float] = {"default": 0.0}
        self._schedules: dict[Key, Schedule] = {}
        self._fired: dict[Key, float] = {}

    def add(self, schedule: Schedule) -> None:
        """Raises ``ConflictError`` for a taken name, ``NotFoundError`` for an unknown group."""
        if schedule.source == "scheduler" and schedule.group not in self.groups:
            raise NotFoundError(f"Schedule group {schedule.group} does not exist.")
        if schedule.key in self._schedules:
            raise ConflictError(f"Schedule {schedule.name} already exists.")
        self._put(schedule)

    def replace(self, schedule: Schedule) -> None:
        """Raises ``NotFoundError`` if there is no schedule of that name."""
        self.get(schedule.group, schedule.name)
        self._put(schedule)

    def get(self, group: str, name: str, *, source: str = "scheduler") -> Schedule:
        """Raises ``NotFoundError`` if there is no schedule of that name."""
        try:
            return self._schedules[source, group, name]
        except KeyError:
            raise NotFoundError(f"Schedule {name} does not exist.") from None

    def remove(self, schedule: Schedule) -> None:
        """Remove a schedule; deliveries under way go on."""
        self._schedules.pop(schedule.key, None)
        self._fired.pop(schedule.key, None)
        self.changed.set()

    def add_group(self, name: str, now: float) -> None:
        """Raises ``ConflictError`` if the name is taken."""
        if name in self.groups:
            raise ConflictError(f"Schedule group {name} already exists.")
        self.groups[name] = now

    def remove_group(self, name: str) -> None:
        """Remove a group and its schedules; ``default`` cannot be removed."""
        if name == "default" or name not in self.groups:
            raise NotFoundError(f"Schedule group {name} does not exist, or cannot be deleted.")
        del self.groups[name]
        for schedule in [each for each in self if each.group == name]:
            self.remove(schedule)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(tuple(self._schedules.values()))

    def __contains__(self, schedule: Schedule) -> bool:
        return self._schedules.get(schedule.key) is schedule

    def fired(self, schedule: Schedule) -> float | None:
        """The last due time for which it was fired since it was created or changed."""
        return self._fired.get(schedule.key)

    def note_fired(self, schedule: Schedule, at: float) -> None:
        """Store the due time, from which the next ``ScheduleSource`` of this book goes on."""
        self._fired[schedule.key] = at

    def _put(self, schedule: Schedule) -> None:
        self._schedules[schedule.key] = schedule
        self._fired.pop(schedule.key, None)
        self.changed.set()
