"""``rate(…)``, ``cron(…)`` and ``at(…)``, evaluated in a time zone.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html says of clock changes:
an invocation at a time that does not exist is skipped, one at a time that comes twice runs once,
and the days of a rate are 24 hours long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from twolane_local.schedules.cron import Cron, parse_cron
from twolane_local.schedules.errors import ExpressionError

if TYPE_CHECKING:
    from datetime import tzinfo

_UNITS = {"minute": 60.0, "hour": 3_600.0, "day": 86_400.0}


class Expression(Protocol):
    """When a schedule is due; instants are epoch seconds."""

    @property
    def recurring(self) -> bool:
        """Whether it may be due more than once."""

    def after(self, instant: float, *, start: float) -> float | None:
        """The first due time after ``instant``; a rate counts from ``start``."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Due at ``start``, and then each time that so many seconds have passed."""

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
class Cron6:
    """Due at wall-clock minutes of a time zone."""

    cron: Cron
    zone: tzinfo
    recurring: bool = True

    def after(self, instant: float, *, start: float) -> float | None:  # noqa: ARG002
        local = datetime.fromtimestamp(instant, self.zone).replace(tzinfo=None, fold=0)
        for wall in self.cron.after(local):
            due = _exists(wall, self.zone)
            # The second pass of a repeated hour: its times were due in the first.
            if due is not None and due > instant:
                return due
        return None


def parse_expression(text: str, timezone: str = "UTC") -> Expression:
    """Read an expression as a schedule states it.

    Raises ``ExpressionError``, which says what AWS would not take.
    """
    match = re.fullmatch(r"\s*(rate|cron|at)\((.*)\)\s*", text)
    if match is None:
        raise ExpressionError(f"{text!r} is none of rate(…), cron(…) and at(…)")
    kind, inner = match[1], match[2].strip()
    zone = _zone(timezone)
    if kind == "rate":
        return Rate(_rate(text, inner))
    if kind == "cron":
        return Cron6(parse_cron(inner), zone)
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
            f"{name!r} is no time zone; use a name like Europe/Berlin "
            "(where the system has none, `pip install tzdata`)"
        ) from None


def _exists(wall: datetime, zone: tzinfo) -> float | None:
    """The instant of a wall-clock time, the first of two; ``None`` if the clock leaps over it."""
    local = wall.replace(tzinfo=zone)
    back = local.astimezone(UTC).astimezone(zone)
    return local.timestamp() if back.replace(tzinfo=None, fold=0) == wall else None
