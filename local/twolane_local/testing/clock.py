"""``twolane.clock``: the time of the whole stack, moved by the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from twolane_local.testing.errors import TestingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.world import World

Moment = datetime | float | str


class Clock:
    """Moves time forward; everything that falls due on the way happens: deliveries, retries,
    schedules, expiries.
    """

    def __init__(self, world: World, pass_time: Callable[[float], None]) -> None:
        """``pass_time(until)`` lets everything happen that falls due by then."""
        self._world, self._pass_time = world, pass_time

    @property
    def now(self) -> datetime:
        """The time, in UTC; also ``datetime.now()`` and ``time.time()`` say it."""
        return datetime.fromtimestamp(self.time, UTC)

    @property
    def time(self) -> float:
        """The time, in seconds since the epoch."""
        return self._world.now

    def advance(self, by: timedelta | float) -> None:
        """Let ``by`` pass; a number is seconds."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if seconds < 0:
            raise TestingError(f"time does not run backwards, not even {-seconds} seconds")
        self._pass_time(self.time + seconds)

    def at(self, moment: Moment) -> None:
        """Let time pass until ``moment``: an aware datetime, seconds since the epoch, or ISO 8601
        (without an offset: UTC).
        """
        self.advance(seconds_of(moment) - self.time)


def seconds_of(moment: Moment) -> float:
    """A moment in seconds since the epoch."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return aware.timestamp()
    return float(moment)
