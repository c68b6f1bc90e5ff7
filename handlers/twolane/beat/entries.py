"""The app's ``beat_schedule``, read once for each execution environment, and its entries' slots.

A *slot* is one instant at which an entry is due, in seconds since the epoch. Celery's own schedule
classes compute it. Slots form a chain: each is the schedule's answer when it is asked from the one
before, exactly as ``celery beat`` asks. The chain matters where clocks change: a ``crontab`` asked
from a time of day that happens twice answers otherwise than when asked from its own last run.
https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from celery import VERSION
from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar

from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

#: What becomes of slots whose tick never came: none of them, the latest, or all (bounded) are sent.
Missed = Literal["skip", "latest", "all"]

#: A header in an entry's ``options`` that states its policy. A stock ``celery beat`` passes it on
#: as any other header, so the same ``beat_schedule`` runs under both.
MISSED_HEADER = "twolane_missed"

#: Celery's default for ``beat_scheduler``, which reads ``beat_schedule``.
STOCK_SCHEDULER = "celery.beat:PersistentScheduler"

_TASK_IDS = uuid.UUID("6f1c1b1e-7a53-5d0c-9d0e-2b6a3f1f8a51")

#: Result backends that expire their own results; for every other one ``celery beat`` adds a daily
#: ``celery.backend_cleanup``, and so do we. Known by name, so that no backend is imported here.
_SELF_EXPIRING = ("redis", "rediss", "sentinel", "dynamodb", "cache", "memcached", "memory")


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    task: str
    schedule: BaseSchedule
    slots: Slots
    fingerprint: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None
    missed: Missed = "latest"
    deadline_s: float | None = None
    #: Only its first slot is sent.
    once: bool = False


def read_entries(app: Celery, *, missed: Missed = "latest") -> dict[str, Entry]:
    """Every enabled entry by name; ``missed`` holds for those that state no policy of their own.

    Raises ``ConfigurationError`` that names the entry which cannot be used.
    """
    check_timezone(app)
    return {
        name: make_entry(app, name, dict(raw), missed)
        for name, raw in _with_defaults(app).items()
        if dict(raw).get("enabled", True)
    }


def check_timezone(app: Celery) -> None:
    """Raise ``ConfigurationError`` if Celery's time zone is not known."""
    # Lambda's images have no time zones of their own: https://docs.python.org/3/library/zoneinfo.html#data-sources
    try:
        app.timezone  # noqa: B018 - looked up, and kept by the app
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            f"Celery's timezone {app.conf.timezone!r} is not known here; check its name, and that "
            "handlers/requirements.txt has tzdata"
        ) from error


def task_id(app: Celery, entry: str, slot: float) -> str:
    """The id of the task that ``entry`` sends for ``slot``: the same whoever computes it, when."""
    return str(uuid.uuid5(_TASK_IDS, f"{app.main or ''}\n{entry}\n{iso(slot)}"))


def iso(instant: float) -> str:
    """``2026-03-29T00:30:00Z``, with a fraction only where there is one."""
    text = datetime.fromtimestamp(instant, UTC).isoformat()
    return text.replace("+00:00", "Z")


def _with_defaults(app: Celery) -> dict[str, Any]:
    app.finalize()  # periodic tasks that are added on_after_finalize
    entries = dict(app.conf.beat_schedule or {})
    cleanup = "celery.backend_cleanup"
    if cleanup not in entries and app.conf.result_expires and not _expires_itself(app):
        every_night = crontab(minute="0", hour="4")
        entries[cleanup] = {"task": cleanup, "schedule": every_night, "options": {"expires": 43200}}
    return entries


def _expires_itself(app: Celery) -> bool:
    scheme = str(app.conf.result_backend or "").partition(":")[0].partition("+")[0]
    return scheme in _SELF_EXPIRING or bool(app.backend.supports_autoexpire)


def make_entry(
    app: Celery,
    name: str,
    raw: dict[str, Any],
    default: Missed,
    *,
    since: float | None = None,
    once: bool = False,
    slots: Slots | None = None,
) -> Entry:
    """An entry as ``beat_schedule`` has it; ``since``: from where it counts if no tick knows it.

    Raises ``ConfigurationError`` if it cannot be used.
    """
    options = dict(raw.get("options") or {})
    missed = (options.get("headers") or {}).get(MISSED_HEADER, default)
    if missed not in get_args(Missed):
        raise ConfigurationError(
            f"beat_schedule entry {name!r}: {MISSED_HEADER} is {missed!r}; "
            f"use one of {', '.join(get_args(Missed))}"
        )
    schedule = _schedule(app, name, raw)
    slots = slots or Slots(schedule, app, since)
    if slots.interval_s is not None and slots.interval_s < 1:
        raise ConfigurationError(
            f"beat_schedule entry {name!r} runs every {slots.interval_s} s; "
            "the shortest interval is one second"
        )
    known = f"{describe(schedule)} {app.timezone}"
    return Entry(
        name=name,
        task=raw["task"],
        schedule=schedule,
        slots=slots,
        fingerprint=hashlib.blake2b(known.encode(), digest_size=6).hexdigest(),
        args=tuple(raw.get("args") or ()),
        kwargs=raw.get("kwargs") or {},
        options=options,
        missed=missed,
        # https://docs.celeryq.dev/en/stable/userguide/configuration.html#beat-cron-starting-deadline
        deadline_s=(
            app.conf.beat_cron_starting_deadline if isinstance(schedule, crontab) else None
        ),
        once=once,
    )


def _schedule(app: Celery, name: str, raw: dict[str, Any]) -> BaseSchedule:
    if "task" not in raw:
        raise ConfigurationError(f"beat_schedule entry {name!r} names no task")
    try:
        schedule: Any = raw.get("schedule")
        schedule = maybe_schedule(schedule, raw.get("relative", False), app=app)
    except AttributeError:  # maybe_schedule gives the app to whatever it is handed
        schedule = None
    if not isinstance(schedule, BaseSchedule):
        raise ConfigurationError(
            f"beat_schedule entry {name!r}: {raw.get('schedule')!r} is no schedule; "
            "use seconds, a timedelta, crontab(…), solar(…) or a schedule class"
        )
    return schedule


#: A schedule that is asked this often without a slot is taken to have none.
_PROBES = 10_000
#: So many steps of a chain are followed one by one before a long outage is leapt over.
_STEPS = 1_000
_FIRST_WINDOW_S = 3_600.0


#: Before 5.5 Celery answers with a difference of times on the wall. ``celery beat`` makes up for
#: it, as it asks again every five minutes.
_ON_THE_WALL = VERSION < (5, 5)


class Slots:
    """The slots of one schedule. Not safe to share between threads: Celery's classes are not."""

    def __init__(self, source: BaseSchedule, app: Celery, since: float | None = None) -> None:
        # django-celery-beat's crontab has a time zone of its own.
        self._zone = vars(source).get("tz") or app.timezone
        self._since = since
        self._now = datetime.fromtimestamp(0, self._zone)
        # With its clock in our hand; the application's own object is left as it is.
        copy: BaseSchedule = object.__new__(type(source))
        copy.__dict__.update(source.__dict__)
        copy.__dict__["nowfun"] = lambda: self._now
        self._schedule = copy
        #: The distance of two slots, where it is always the same.
        self.interval_s = _plain_interval(source)
        # True if ``remaining_estimate`` is all that counts: Celery's classes, ``is_due`` untouched.
        self._asks_estimate = any(
            isinstance(source, known) and type(source).is_due is known.is_due
            for known in (schedule, crontab, solar)
        )

    def anchor(self, tick: float) -> float:
        """From where an entry counts that is new at ``tick``: an interval from it, as ``celery
        beat`` does at its start; a time of day from just before, so that this very tick still
        counts.
        """
        if self._since is not None:
            return self._since
        return tick if isinstance(self._schedule, schedule) else tick - 1.0

    def after(self, last: float) -> float | None:
        """The first slot after ``last``, if any. Raises ``ValueError`` if it is not after it."""
        if self.interval_s is not None:
            return round(last + self.interval_s, 6)
        found = self._estimated(last) if self._asks_estimate else self._probed(last)
        if found is not None and found <= last:
            since = datetime.fromtimestamp(last, UTC).isoformat()
            raise ValueError(f"{self._schedule!r} does not move on from {since}")
        return found

    def recent(self, last: float, until: float, limit: int) -> tuple[deque[float], float]:
        """The latest ``limit`` slots in (``last``, ``until``], and the last of them or ``last``.
        After an outage the chain is not followed from its beginning, which would cost time.
        """
        if self.interval_s is not None:
            skipped = max(0, int((until - last) / self.interval_s) - limit - 1)
            last = round(last + skipped * self.interval_s, 6)
        found, complete = self._walk(last, until, limit, _STEPS)
        window = _FIRST_WINDOW_S
        while not complete:
            start = max(last, until - window)
            found, _ = self._walk(start, until, limit, None)
            complete = start == last or len(found) == limit
            window *= 8
        return found, (found[-1] if found else last)

    def _walk(
        self, start: float, until: float, limit: int, steps: int | None
    ) -> tuple[deque[float], bool]:
        found: deque[float] = deque(maxlen=limit)
        taken = 0
        slot = self.after(start)
        while slot is not None and slot <= until:
            found.append(slot)
            taken += 1
            if taken == steps:
                return found, False
            slot = self.after(slot)
        return found, True

    def _at(self, instant: float) -> datetime:
        return datetime.fromtimestamp(instant, UTC).astimezone(self._zone)

    def _estimated(self, last: float) -> float:
        self._now = self._at(last)
        remaining = self._schedule.remaining_estimate(self._now)
        if _ON_THE_WALL and not isinstance(self._schedule, solar):
            return round((self._now + remaining).timestamp(), 6)
        return round(last + remaining.total_seconds(), 6)

    def _probed(self, last: float) -> float | None:
        """Ask as ``celery beat`` does: is it due, and if not, when is it worth asking again?"""
        last_run_at = self._at(last)
        now = last
        for _ in range(_PROBES):
            self._now = self._at(now)
            due, ask_again_s = self._schedule.is_due(last_run_at)
            if due and now > last:
                return now
            now = round(now + max(float(ask_again_s or 0), 0.001), 6)
        return None


def describe(source: Any) -> str:
    """A text that is equal for equal schedules, in every process."""
    kind = type(source)
    if kind is schedule:
        return f"every {source.run_every.total_seconds()} s, relative={source.relative}"
    if kind is crontab:
        fields = (source.minute, source.hour, source.day_of_month, source.month_of_year)
        return f"crontab {[sorted(field) for field in (*fields, source.day_of_week)]}"
    return repr(source)


def plainly(source: Any) -> str:
    """A schedule for a person to read: Celery's own words, without the brackets."""
    return repr(source).strip("<>").removesuffix(" (m/h/dM/MY/d)")


def _plain_interval(source: Any) -> float | None:
    kind = type(source)
    if kind is not schedule or source.relative:
        return None
    every: timedelta = source.run_every
    return every.total_seconds()
