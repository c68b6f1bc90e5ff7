"""What a beat function answers besides its schedule: for the ``twolane schedules`` command.

``{"twolane": {"list": 3}}`` lists the entries with their next three times, and ``{"twolane":
{"run": "digest"}}`` sends one now. Whoever may invoke the function may do so: on AWS that is
``lambda:InvokeFunction``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Protocol

from twolane.beat.entries import iso
from twolane.beat.listing import list_entries
from twolane.beat.sending import send
from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

    from twolane.beat.entries import Entry, Missed
    from twolane.state import StateStore

_MOST = 100


class Beat(Protocol):
    """What of a ``BeatHandler`` is asked here."""

    app: Celery
    missed: Missed

    @property
    def store(self) -> StateStore: ...

    def entries(self) -> dict[str, Entry]: ...


def answer(handler: Beat, asked: dict[str, Any], now: float) -> dict[str, Any]:
    """Do what ``asked`` says; raises ``ConfigurationError`` where it says nothing known."""
    if "list" in asked:
        count = min(max(int(asked["list"]), 1), _MOST)
        listed = list_entries(handler.app, handler.store, now, count=count, missed=handler.missed)
        return {"entries": [each.as_json() for each in listed]}
    if "run" in asked:
        return run_now(handler, str(asked["run"]), now)
    raise ConfigurationError(f"a beat function can list and run, not {', '.join(asked) or 'that'}")


def run_now(handler: Beat, name: str, now: float) -> dict[str, Any]:
    """Send one entry's task at once, beside its schedule, which goes on as if nothing were."""
    entry = handler.entries().get(name)
    if entry is None:
        known = ", ".join(sorted(handler.entries())) or "none"
        raise ConfigurationError(f"beat_schedule has no enabled entry {name!r}; it has: {known}")
    task_id = str(uuid.uuid4())
    send(handler.app, entry, task_id, now, now)
    return {"entry": name, "slot": iso(now), "taskId": task_id}
