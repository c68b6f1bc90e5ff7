"""``beat_schedule`` as a person wants to see it: the next slots, and the last ones.

The command ``twolane schedules`` asks a beat function for it: ``{"twolane": {"list": 3}}`` lists
the entries with their next three times, and ``{"twolane": {"run": "digest"}}`` sends one now. Any
caller that may invoke the function may do so: on AWS that is ``lambda:InvokeFunction``.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane.beat.entries import STOCK_SCHEDULER, iso, plainly, read_entries, task_id
from twolane.beat.ledger import LedgerStore
from twolane.beat.sending import claim_key, send
from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

    from twolane.beat.entries import Entry, Missed
    from twolane.beat.handler import BeatHandler
    from twolane.beat.ledger import Record
    from twolane.state import StateStore


#: How far back a slot is looked for that an entry's own event sent: as long as its claim lives.
_BACK_S = 3 * 86_400.0


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry; times in epoch seconds."""

    name: str
    task: str
    schedule: str
    timezone: str
    missed: str
    next: tuple[float, ...]
    last: float | None = None
    task_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The same with camelCase names and times like ``2026-01-01T00:00:00Z``."""
        return {
            "name": self.name,
            "task": self.task,
            "schedule": self.schedule,
            "timezone": self.timezone,
            "missed": self.missed,
            "next": [iso(slot) for slot in self.next],
            "last": None if self.last is None else iso(self.last),
            "taskId": self.task_id,
        }


def list_entries(
    app: Celery, store: StateStore, now: float, *, count: int = 3, missed: Missed = "latest"
) -> list[Listed]:
    """Every enabled entry with its next ``count`` times, from now without a tick yet, and its last
    run, by name. Raises ``StoreUnavailableError``.
    """
    entries = entries_at(app, now, missed)
    records = LedgerStore(store, app.main or "").read().records
    last = {
        name: _last_run(entry, records[name], now)
        for name, entry in entries.items()
        if name in records
    }
    last |= _sent_by_their_own_events(app, store, entries, records, now)
    return [
        Listed(
            name=name,
            task=entry.task,
            schedule=plainly(entry.schedule),
            timezone=str(app.timezone),
            missed=entry.missed,
            next=tuple(_upcoming(entry, records.get(name), now, count)),
            last=(slot := last.get(name)),
            task_id=None if slot is None else task_id(app, name, slot),
        )
        for name, entry in sorted(entries.items())
    ]


def entries_at(app: Celery, now: float, missed: Missed = "latest") -> dict[str, Entry]:
    """Every enabled entry, of ``beat_schedule`` or of Django's database, by name."""
    if app.conf.beat_scheduler != STOCK_SCHEDULER:
        from twolane.beat.database import database_entries

        rows = database_entries(app)
        if rows is not None:
            return rows.read(now, missed)
    return read_entries(app, missed=missed)


def _last_run(entry: Entry, record: Record, now: float) -> float | None:
    """The last slot that was sent and has come; what was sent ahead may still be to come."""
    if record.sent is None or record.sent <= now:
        return record.sent
    every = entry.slots.interval_s
    if every is not None:
        return round(record.sent - math.ceil((record.sent - now) / every) * every, 6)
    found, _ = entry.slots.recent(now - _BACK_S, now, 1)
    return found[-1] if found else None


def _upcoming(entry: Entry, record: Record | None, now: float, count: int) -> list[float]:
    last = record.last if record is not None else now
    if last < now:
        last = entry.slots.recent(last, now, 1)[1]
    found: list[float] = []
    while len(found) < count and (slot := entry.slots.after(last)) is not None:
        last = slot
        if slot > now:
            found.append(slot)
    return found


def _sent_by_their_own_events(
    app: Celery,
    store: StateStore,
    entries: dict[str, Entry],
    records: Any,
    now: float,
) -> dict[str, float | None]:
    """The latest slot of entries that no tick knows, if its claim says that it was sent."""
    latest = {
        name: entry.slots.recent(now - _BACK_S, now, 1)[1]
        for name, entry in entries.items()
        if name not in records and entry.slots.interval_s is None
    }
    keys = {name: claim_key(task_id(app, name, slot)) for name, slot in latest.items()}
    known = store.get_many(keys.values()) if keys else {}
    return {name: latest[name] for name, key in keys.items() if key in known}


_MOST = 100


def answer(handler: BeatHandler, asked: dict[str, Any], now: float) -> dict[str, Any]:
    """Do what ``asked`` says; raises ``ConfigurationError`` where it says nothing known."""
    if "list" in asked:
        count = min(max(int(asked["list"]), 1), _MOST)
        listed = list_entries(handler.app, handler.store, now, count=count, missed=handler.missed)
        return {"entries": [each.as_json() for each in listed]}
    if "run" in asked:
        return run_now(handler, str(asked["run"]), now)
    raise ConfigurationError(f"a beat function can list and run, not {', '.join(asked) or 'that'}")


def run_now(handler: BeatHandler, name: str, now: float) -> dict[str, Any]:
    """Send one entry's task at once, beside its schedule, which goes on as if nothing were."""
    entry = handler.entries().get(name)
    if entry is None:
        known = ", ".join(sorted(handler.entries())) or "none"
        raise ConfigurationError(f"beat_schedule has no enabled entry {name!r}; it has: {known}")
    task_id = str(uuid.uuid4())
    send(handler.app, entry, task_id, now, now)
    return {"entry": name, "slot": iso(now), "taskId": task_id}
