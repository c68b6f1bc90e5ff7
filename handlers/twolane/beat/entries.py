"""The app's ``beat_schedule`` as it stands, read once for each execution environment."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from celery.schedules import BaseSchedule, crontab, maybe_schedule

from twolane.beat.slots import Slots, describe
from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

#: What becomes of slots whose tick never came: none of them, the latest, or all (bounded) are sent.
Missed = Literal["skip", "latest", "all"]

#: A header in an entry's ``options`` that states its policy. A stock ``celery beat`` passes it on
#: as any other header, so the same ``beat_schedule`` runs under both.
MISSED_HEADER = "twolane_missed"

_TASK_IDS = uuid.UUID("6f1c1b1e-7a53-5d0c-9d0e-2b6a3f1f8a51")

#: Result backends that expire their own results; for every other one ``celery beat`` adds a daily
#: ``celery.backend_cleanup``, and so do we. Known by name, so that no backend is imported here.
_SELF_EXPIRING = ("redis", "rediss", "sentinel", "dynamodb", "cache", "memcached", "memory")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of ``beat_schedule``."""

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


def read_entries(app: Celery, *, missed: Missed = "latest") -> dict[str, Entry]:
    """Every enabled entry by name; ``missed`` holds for those that state no policy of their own.

    Raises ``ConfigurationError`` that names the entry which cannot be used.
    """
    _check_zone(app)
    return {
        name: _read(app, name, dict(raw), missed)
        for name, raw in _with_defaults(app).items()
        if dict(raw).get("enabled", True)
    }


def task_id(app: Celery, entry: str, slot: float) -> str:
    """The id of the task that ``entry`` sends for ``slot``: the same whoever computes it, when."""
    return str(uuid.uuid5(_TASK_IDS, f"{app.main or ''}\n{entry}\n{iso(slot)}"))


def iso(instant: float) -> str:
    """``2026-03-29T00:30:00Z``, with a fraction only where there is one."""
    text = datetime.fromtimestamp(instant, UTC).isoformat()
    return text.replace("+00:00", "Z")


def _check_zone(app: Celery) -> None:
    # Lambda's images have no time zones of their own: https://docs.python.org/3/library/zoneinfo.html#data-sources
    try:
        app.timezone  # noqa: B018 - looked up, and kept by the app
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            f"Celery's timezone {app.conf.timezone!r} is not known here; check its name, and that "
            "handlers/requirements.txt has tzdata"
        ) from error


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


def _read(app: Celery, name: str, raw: dict[str, Any], default: Missed) -> Entry:
    options = dict(raw.get("options") or {})
    missed = (options.get("headers") or {}).get(MISSED_HEADER, default)
    if missed not in get_args(Missed):
        raise ConfigurationError(
            f"beat_schedule entry {name!r}: {MISSED_HEADER} is {missed!r}; "
            f"use one of {', '.join(get_args(Missed))}"
        )
    schedule = _schedule(app, name, raw)
    slots = Slots(schedule, app)
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
