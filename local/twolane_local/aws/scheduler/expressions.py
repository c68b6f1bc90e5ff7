"""Schedule expressions: ``rate(…)``, ``cron(…)`` and ``at(…)``, evaluated in a time zone.

Clock changes: a time that does not exist is skipped, a time that comes twice is due once, and the
days of a rate are 24 hours long:
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
Fields of cron: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Protocol
from zoneinfo import ZoneInfo

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo


class SchedulerError(LocalError):
    """The Scheduler API refused a request."""

    code: ClassVar[str] = "InternalServerException"
    status: ClassVar[int] = 500


class ValidationError(SchedulerError):
    """The request is not valid; the message names the field."""

    code = "ValidationException"
    status = 400


class ExpressionError(ValidationError):
    """AWS would refuse the schedule expression; the message says why."""


class NotFoundError(SchedulerError):
    """There is no such schedule or group."""

    code = "ResourceNotFoundException"
    status = 404


class ConflictError(SchedulerError):
    """A schedule or group of that name already exists."""

    code = "ConflictException"
    status = 409


_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIRST_YEAR, _LAST_YEAR = 1970, 2199


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: its name, its bounds, and the words that it takes instead of numbers."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    steps: bool = True

    def number(self, text: str) -> int:
        if text in self.words:
            return self.low + self.words.index(text)
        if not text.isascii() or not text.isdigit() or not self.low <= int(text) <= self.high:
            raise ExpressionError(
                f"{text!r} is not a {self.name}; use {self.low} to {self.high}"
                + (f" or {self.words[0]} to {self.words[-1]}" if self.words else "")
            )
        return int(text)

    def values(self, text: str) -> tuple[int, ...]:
        """Parse ``*``, ``5``, ``1-5``, ``20-2`` (wraps around), ``0/15``, ``1-5/2`` and lists."""
        found: set[int] = set()
        for part in text.split(","):
            span, slash, step = part.partition("/")
            if slash and not self.steps:
                raise ExpressionError(f"the {self.name} field takes no step: {part!r}")
            every = _step(part, step) if slash else 1
            found.update(self._span(span, open_ended=bool(slash))[::every])
        return tuple(sorted(found))

    def _span(self, text: str, *, open_ended: bool) -> list[int]:
        first, dash, last = text.partition("-")
        if text == "*":
            return list(range(self.low, self.high + 1))
        start = self.number(first)
        if not dash:
            return list(range(start, self.high + 1)) if open_ended else [start]
        end = self.number(last)
        if start <= end:
            return list(range(start, end + 1))
        return [*range(start, self.high + 1), *range(self.low, end + 1)]


_MINUTES = _Field("minute", 0, 59)
_HOURS = _Field("hour", 0, 23)
_DAYS = _Field("day-of-month", 1, 31)
_MONTH = _Field("month", 1, 12, tuple(_MONTHS))
_WEEKDAY = _Field("day-of-week", 1, 7, tuple(_WEEKDAYS), steps=False)
_YEARS = _Field("year", _FIRST_YEAR, _LAST_YEAR)


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed cron expression. ``L``, ``W`` and ``#`` depend on the month, so days stay text."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day_of_month: str
    months: tuple[int, ...]
    day_of_week: str
    years: tuple[int, ...]

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Each wall-clock minute after ``moment`` (naive), in order, up to the last year."""
        for year in self.years:
            for month in self.months:
                if (year, month) < (moment.year, moment.month):
                    continue
                for day in self.days(year, month):
                    if (year, month, day) < (moment.year, moment.month, moment.day):
                        continue
                    today = (year, month, day) == (moment.year, moment.month, moment.day)
                    for hour in self.hours:
                        if today and hour < moment.hour:
                            continue
                        for minute in self.minutes:
                            found = datetime(year, month, day, hour, minute)  # noqa: DTZ001
                            if found > moment:
                                yield found

    def days(self, year: int, month: int) -> list[int]:
        """The days on which it is due in a month."""
        if self.day_of_month == "?":
            return _by_weekday(self.day_of_week, year, month)
        return _by_day(self.day_of_month, year, month)


def parse_cron(fields: str) -> Cron:
    """Parse the six fields of ``cron(…)``; raises ``ExpressionError`` if AWS would refuse them."""
    parts = fields.upper().split()
    if len(parts) != 6:
        raise ExpressionError(f"cron({fields}) has {len(parts)} fields, not six")
    minutes, hours, day_of_month, months, day_of_week, years = parts
    if (day_of_month == "?") == (day_of_week == "?"):
        raise ExpressionError(
            f"cron({fields}): one of day-of-month and day-of-week must be ?, the other not"
        )
    cron = Cron(
        _MINUTES.values(minutes),
        _HOURS.values(hours),
        day_of_month,
        _MONTH.values(months),
        day_of_week,
        _YEARS.values(years),
    )
    cron.days(2024, 1)  # checks the fields of days
    return cron


def _step(part: str, step: str) -> int:
    if not step.isascii() or not step.isdigit() or int(step) == 0:
        raise ExpressionError(f"the step of {part!r} is not a positive number")
    return int(step)


def _by_day(text: str, year: int, month: int) -> list[int]:
    last = calendar.monthrange(year, month)[1]
    if text == "LW":
        return [_nearest_weekday(last, year, month)]
    if match := re.fullmatch(r"L(?:-(\d{1,2}))?", text):
        back = int(match[1] or 0)
        if back > 30:
            raise ExpressionError(f"{text!r} is not a day-of-month; go back 30 days at most")
        return [last - back] if back < last else []
    if match := re.fullmatch(r"(\d{1,2})W", text):
        day = _DAYS.number(match[1])
        return [_nearest_weekday(day, year, month)] if day <= last else []
    return [day for day in _DAYS.values(text) if day <= last]


def _nearest_weekday(day: int, year: int, month: int) -> int:
    """The weekday (Monday to Friday) closest to ``day``, never in another month."""
    weekday, last = calendar.weekday(year, month, day), calendar.monthrange(year, month)[1]
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < last else day - 2
    return day


def _by_weekday(text: str, year: int, month: int) -> list[int]:
    if text == "L":
        text = "SAT"  # the last day of the week
    if match := re.fullmatch(r"([1-7]|[A-Z]{3})L", text):
        return _days_on(_WEEKDAY.number(match[1]), year, month)[-1:]
    if match := re.fullmatch(r"([1-7]|[A-Z]{3})#([1-5])", text):
        nth = int(match[2])
        return _days_on(_WEEKDAY.number(match[1]), year, month)[nth - 1 : nth]
    found = [day for number in _WEEKDAY.values(text) for day in _days_on(number, year, month)]
    return sorted(found)


def _days_on(number: int, year: int, month: int) -> list[int]:
    """The days of a month on one weekday, by AWS's number: 1 is Sunday."""
    first, length = calendar.monthrange(year, month)
    offset = (number - 2 - first) % 7  # Python's Monday is 0, AWS's is 2
    return list(range(1 + offset, length + 1, 7))


_UNITS = {"minute": 60.0, "hour": 3_600.0, "day": 86_400.0}


class Expression(Protocol):
    """A parsed schedule expression; instants are epoch seconds."""

    @property
    def recurring(self) -> bool:
        """True if it may be due more than once."""

    def after(self, instant: float, *, start: float) -> float | None:
        """The first due time after ``instant``; a rate counts from ``start``."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Due at ``start`` and then every ``every_s`` seconds."""

    every_s: float
    recurring: bool = True

    def after(self, instant: float, *, start: float) -> float | None:
        if instant < start:
            return start
        return start + ((instant - start) // self.every_s + 1) * self.every_s


@dataclass(frozen=True, slots=True)
class At:
    """Due once."""

    instant: float
    recurring: bool = False

    def after(self, instant: float, *, start: float) -> float | None:  # noqa: ARG002
        return self.instant if self.instant > instant else None


@dataclass(frozen=True, slots=True)
class ZonedCron:
    """Due at the wall-clock minutes of a cron expression in a time zone."""

    cron: Cron
    zone: tzinfo
    recurring: bool = True

    def after(self, instant: float, *, start: float) -> float | None:  # noqa: ARG002
        local = datetime.fromtimestamp(instant, self.zone).replace(tzinfo=None, fold=0)
        for wall in self.cron.after(local):
            due = _exists(wall, self.zone)
            # A repeated hour: its times were due in the first pass.
            if due is not None and due > instant:
                return due
        return None


def parse_expression(text: str, timezone: str = "UTC") -> Expression:
    """Parse a schedule's expression; raises ``ExpressionError`` if AWS would refuse it."""
    match = re.fullmatch(r"\s*(rate|cron|at)\((.*)\)\s*", text)
    if match is None:
        raise ExpressionError(f"{text!r} is not rate(…), cron(…) or at(…)")
    kind, inner = match[1], match[2].strip()
    zone = _zone(timezone)
    if kind == "rate":
        return Rate(_rate(text, inner))
    if kind == "cron":
        return ZonedCron(parse_cron(inner), zone)
    return At(_moment(text, inner, zone))


def _rate(text: str, inner: str) -> float:
    match = re.fullmatch(r"([1-9]\d*)\s+(minute|hour|day)s?", inner)
    if match is None:
        raise ExpressionError(f"{text!r}: a rate is a positive number and minutes, hours or days")
    return int(match[1]) * _UNITS[match[2]]


def _moment(text: str, inner: str, zone: tzinfo) -> float:
    try:
        moment = datetime.strptime(inner, "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007
    except ValueError:
        raise ExpressionError(f"{text!r}: at takes a time like 2026-01-31T09:00:00") from None
    return moment.replace(tzinfo=zone).timestamp()


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ExpressionError(
            f"{name!r} is not a time zone; use a name like Europe/Berlin "
            "(on a system without time zones, `pip install tzdata`)"
        ) from None


def _exists(wall: datetime, zone: tzinfo) -> float | None:
    """The instant of a wall-clock time, the first of two; ``None`` if the clock skips it."""
    local = wall.replace(tzinfo=zone)
    back = local.astimezone(UTC).astimezone(zone)
    return local.timestamp() if back.replace(tzinfo=None, fold=0) == wall else None
