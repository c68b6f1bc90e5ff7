"""Schedules, from a template or the Scheduler API, and the book that holds them.

What fires them sleeps until the next due time, delivers, and sleeps again.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.aws.scheduler.expressions import (
    ConflictError,
    Expression,
    NotFoundError,
    ValidationError,
    parse_expression,
)
from twolane_local.aws.scheduler.targets import (
    DeliveryError,
    Firing,
    Invocations,
    deliver,
    iso,
    send_to_dead_letter_queue,
)
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
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


#: Retries back off exponentially; AWS does not publish the figures.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 900.0


class ScheduleSource:
    """Runs every schedule of a book until it is cancelled.

    ``rng`` spreads flexible time windows and makes execution ids.
    """

    def __init__(
        self,
        specs: Iterable[ScheduleSpec],
        invocations: Invocations,
        queues: QueueService,
        clock: Clock,
        journal: Journal,
        *,
        book: ScheduleBook | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.book = ScheduleBook() if book is None else book
        self._queues, self._clock, self._journal = queues, clock, journal
        self._invocations = invocations
        self._rng = rng or random.Random()  # noqa: S311 - spread and ids, no secret
        self._due: list[tuple[float, int, Schedule]] = []
        self._known: dict[Key, Schedule] = {}
        self._turn = 0
        for spec in specs:
            schedule = from_spec(spec, now=clock.time())
            if schedule.source == "scheduler":
                self.book.groups.setdefault(schedule.group, clock.time())
            self.book.add(schedule)

    async def run(self) -> None:
        """Fire due schedules until cancelled, which also cancels deliveries under way."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self.book.changed.clear()
                self._take_up()
                now = self._clock.time()
                while self._due and self._due[0][0] <= now:
                    at, _, schedule = heapq.heappop(self._due)
                    if schedule in self.book:
                        self._fire(schedule, at, now, deliveries)
                wait_s = self._due[0][0] - now if self._due else None
                await self._clock.wait(self.book.changed, wait_s)

    def _take_up(self) -> None:
        """Plan new and changed schedules; removed ones are skipped when they come up."""
        current = {schedule.key: schedule for schedule in self.book}
        for name, schedule in current.items():
            if self._known.get(name) is not schedule and schedule.enabled:
                after = self.book.fired(schedule)
                if after is None:
                    # A one-time schedule in the past fires at once. Unverified
                    # (`schedule-in-the-past`): AWS may refuse to create one; here a schedule that
                    # is created a second too late must not be lost.
                    after = schedule.modified - 1e-3 if schedule.expression.recurring else 0.0
                self._plan(schedule, after)
        self._known = current

    def _plan(self, schedule: Schedule, after: float) -> bool:
        due = schedule.after(after)
        if due is None:
            return False
        self._turn += 1
        heapq.heappush(self._due, (due, self._turn, schedule))
        return True

    def _fire(
        self, schedule: Schedule, at: float, now: float, deliveries: asyncio.TaskGroup
    ) -> None:
        missed = 0
        while (later := schedule.after(at)) is not None and later <= now:
            at, missed = later, missed + 1  # this machine slept: one invocation for all
        firing = Firing(schedule, at, f"{self._rng.getrandbits(64):016x}")
        self._journal.record(
            "schedule.fired",
            schedule=schedule.name, time=iso(at), target=schedule.target.arn, missed=missed,
        )  # fmt: skip
        self.book.note_fired(schedule, at)
        again = self._plan(schedule, at)
        deliveries.create_task(self._deliver(firing, last=not again))

    async def _deliver(self, firing: Firing, *, last: bool) -> None:
        schedule = firing.schedule
        await self._clock.sleep(self._rng.random() * schedule.window_s)
        if last and schedule.delete_when_complete and schedule in self.book:
            self.book.remove(schedule)
        begun = self._clock.time()
        while True:
            try:
                await deliver(firing, self._queues, self._invocations)
            except DeliveryError as error:
                wait_s = min(_FIRST_RETRY_S * 2 ** (firing.attempt - 1), _LONGEST_RETRY_S)
                condition = _exhausted(firing, self._clock.time() + wait_s - begun)
                # Here a target only fails because it does not exist, which rules do not retry.
                if condition is not None or schedule.source == "rule":
                    self._give_up(firing, error, condition)
                    return
                await self._clock.sleep(wait_s)
                firing = replace(firing, attempt=firing.attempt + 1)
            else:
                return

    def _give_up(self, firing: Firing, error: DeliveryError, condition: str | None) -> None:
        dead_lettered = send_to_dead_letter_queue(firing, self._queues, error, condition)
        self._journal.record(
            "message.dead_lettered" if dead_lettered else "log",
            schedule=firing.schedule.name, error=error.code, message=str(error),
            attempts=firing.attempt, dead_letter=firing.schedule.target.dead_letter_arn,
        )  # fmt: skip


def _exhausted(firing: Firing, age_s: float) -> str | None:
    target = firing.schedule.target
    if firing.attempt > target.retries:
        return "MaximumRetryAttempts"
    return "MaximumEventAgeInSeconds" if age_s > target.age_s else None
