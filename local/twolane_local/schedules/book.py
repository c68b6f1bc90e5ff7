"""All schedules of this machine, by group and name: from the template and from the API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.schedules.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.schedules.schedule import Schedule

Key = tuple[str, str, str]


class ScheduleBook:
    """Lives on the event loop: no lock. ``changed`` is set whenever a schedule comes or goes."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.groups: dict[str, float] = {"default": 0.0}
        self._schedules: dict[Key, Schedule] = {}
        self._fired: dict[Key, float] = {}

    def add(self, schedule: Schedule) -> None:
        """Raises ``ConflictError`` where there is one of that name, ``NotFoundError`` where there
        is no such group.
        """
        if schedule.source == "scheduler" and schedule.group not in self.groups:
            raise NotFoundError(f"Schedule group {schedule.group} does not exist.")
        if key(schedule) in self._schedules:
            raise ConflictError(f"Schedule {schedule.name} already exists.")
        self._put(schedule)

    def replace(self, schedule: Schedule) -> None:
        """Raises ``NotFoundError`` where there is none of that name."""
        self.get(schedule.group, schedule.name)
        self._put(schedule)

    def get(self, group: str, name: str, *, source: str = "scheduler") -> Schedule:
        """Raises ``NotFoundError`` where there is none of that name."""
        try:
            return self._schedules[source, group, name]
        except KeyError:
            raise NotFoundError(f"Schedule {name} does not exist.") from None

    def remove(self, schedule: Schedule) -> None:
        """Take a schedule out; what it has sent already stays sent."""
        self._schedules.pop(key(schedule), None)
        self._fired.pop(key(schedule), None)
        self.changed.set()

    def add_group(self, name: str, now: float) -> None:
        """Raises ``ConflictError`` where there is one of that name."""
        if name in self.groups:
            raise ConflictError(f"Schedule group {name} already exists.")
        self.groups[name] = now

    def remove_group(self, name: str) -> None:
        """Remove a group and all that is in it; ``default`` stays."""
        if name == "default" or name not in self.groups:
            raise NotFoundError(f"Schedule group {name} does not exist, or cannot be deleted.")
        del self.groups[name]
        for schedule in [each for each in self if each.group == name]:
            self.remove(schedule)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(tuple(self._schedules.values()))

    def __contains__(self, schedule: Schedule) -> bool:
        return self._schedules.get(key(schedule)) is schedule

    def fired(self, schedule: Schedule) -> float | None:
        """The last due time for which it was fired, since it was made or changed."""
        return self._fired.get(key(schedule))

    def note_fired(self, schedule: Schedule, at: float) -> None:
        """Whoever runs the book next goes on from there."""
        self._fired[key(schedule)] = at

    def _put(self, schedule: Schedule) -> None:
        self._schedules[key(schedule)] = schedule
        self._fired.pop(key(schedule), None)
        self.changed.set()


def key(schedule: Schedule) -> Key:
    """A rule and a schedule may have the same name."""
    return schedule.source, schedule.group, schedule.name
