"""The entries of django-celery-beat: rows of Django's database that an administrator edits.

They are read where Celery's own setting ``beat_scheduler`` names its ``DatabaseScheduler``, or a
class made of it. Each tick reads the enabled rows, so that a change counts from the next tick on.
As under ``celery beat``, the entries of ``beat_schedule`` are written into the table once for each
process; ``last_run_at`` and ``total_run_count`` are kept; and a row that is over, one-off or
expired, is switched off.

The ledger decides what is due, as for other entries, so that a tick that comes twice sends once.
The rows are written after a task is sent and before its claim ends: if that fails, the next tick
sends the task again, with the same id.

https://django-celery-beat.readthedocs.io/en/latest/
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from celery.utils.time import maybe_make_aware

from twolane.beat.entries import STOCK_SCHEDULER, Entry, Slots, check_timezone, make_entry
from twolane.errors import ConfigurationError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from celery import Celery

    from twolane.beat.entries import Missed

log = logging.getLogger(__name__)


class OneSlot(Slots):
    """The only slot of a clocked schedule; if it is past and not sent yet, it is due."""

    def __init__(self, source: Any, app: Celery) -> None:
        super().__init__(source, app)
        self._slot = _seconds(source.clocked_time)

    def anchor(self, tick: float) -> float:  # noqa: ARG002 - as that of other slots
        return self._slot - 1.0

    def after(self, last: float) -> float | None:
        return self._slot if last < self._slot else None


class DatabaseEntries:
    """The rows, read and written through the models of django-celery-beat."""

    def __init__(self, scheduler: Any, app: Celery) -> None:
        self._scheduler = scheduler
        self._app = app
        self._is_set_up = False

    def set_up(self) -> None:
        """Write the entries of ``beat_schedule`` into the table, once for each process."""
        if not self._is_set_up:
            with _database():
                self._scheduler.setup_schedule()
            self._is_set_up = True

    def read(self, now: float, missed: Missed, *, tidy: bool = False) -> dict[str, Entry]:
        """Every row that is enabled, has begun and is not over; ``tidy``: what is over is switched
        off. Raises ``StoreUnavailableError``.
        """
        check_timezone(self._app)
        with _database():
            rows = list(
                self._scheduler.Model.objects.enabled()
                .prefetch_related(None)
                .select_related("interval", "crontab", "solar", "clocked")
            )
            found: dict[str, Entry] = {}
            for row in rows:
                if row.start_time is not None and _seconds(row.start_time) > now:
                    continue
                if (row.one_off and row.total_run_count > 0) or _is_over(row, now):
                    if tidy:
                        self._switch_off(row)
                    continue
                entry = self._entry(row, missed)
                if entry is not None:
                    found[entry.name] = entry
        return found

    def note(self, names: Iterable[str], now: float) -> None:
        """Note that the tasks of these entries were sent. Raises ``StoreUnavailableError``."""
        from django.db.models import F

        sent = Counter(names)
        if not sent:
            return
        moment: datetime = datetime.fromtimestamp(now, UTC)
        if not _is_aware():
            moment = moment.replace(tzinfo=None)
        with _database():
            rows = self._scheduler.Model.objects.filter(name__in=list(sent))
            for row in rows:
                if row.one_off:
                    self._switch_off(row)
                    continue
                # Not by ``save``, which would tell that the schedule has changed.
                self._scheduler.Model.objects.filter(pk=row.pk).update(
                    last_run_at=moment, total_run_count=F("total_run_count") + sent[row.name]
                )

    def _entry(self, row: Any, missed: Missed) -> Entry | None:
        try:
            args, kwargs = json.loads(row.args or "[]"), json.loads(row.kwargs or "{}")
            headers = json.loads(row.headers or "{}")
        except ValueError:
            log.exception("entry %r is not sent: its arguments are not JSON", row.name)
            return None
        options = {
            name: value
            for name in ("queue", "exchange", "routing_key", "priority")
            if (value := getattr(row, name)) is not None
        }
        if row.expires_:
            options["expires"] = row.expires_
        # https://django-celery-results.readthedocs.io/ shows it beside the result.
        options["headers"] = {**headers, "periodic_task_name": row.name}
        try:
            if row.scheduler is None:
                raise ConfigurationError(f"entry {row.name!r} has no schedule; choose one")
            schedule = row.schedule
            raw = {
                "task": row.task,
                "schedule": schedule,
                "args": args,
                "kwargs": kwargs,
                "options": options,
            }
            slots = OneSlot(schedule, self._app) if row.clocked else None
            return make_entry(
                self._app, row.name, raw, missed, since=_since(row, schedule), once=row.one_off,
                slots=slots,
            )  # fmt: skip
        except ConfigurationError as error:
            log.error("%s; the other entries go on", error)  # noqa: TRY400 - it says all
            return None

    @staticmethod
    def _switch_off(row: Any) -> None:
        # What ``DatabaseScheduler`` leaves of such a row, as it is due again.
        row.enabled = False
        row.total_run_count = 0
        row.save(update_fields=["enabled", "total_run_count", "last_run_at", "date_changed"])


def database_entries(app: Celery) -> DatabaseEntries | None:
    """The rows, if ``beat_scheduler`` asks for them; a scheduler that is not run here is named."""
    chosen: Any = app.conf.beat_scheduler
    if not chosen or chosen == STOCK_SCHEDULER:
        return None
    app.loader.init_worker()  # as ``celery beat``: sets Django up, before its models are imported
    try:
        from django_celery_beat.schedulers import DatabaseScheduler
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"django", "django_celery_beat"}:
            raise
        known: Any = None
    else:
        known = DatabaseScheduler
    kind = _class(chosen)
    if known is not None and issubclass(kind, known):
        return DatabaseEntries(kind(app=app, lazy=True), app)
    if kind.__module__ != "celery.beat":
        _warn(f"{kind.__module__}:{kind.__qualname__}")
    return None


@cache
def _warn(scheduler: str) -> None:
    log.warning(
        "! beat_scheduler is %s, which BeatHandler does not run: it sends the entries of "
        "beat_schedule, and no others. It can read the tables of django-celery-beat",
        scheduler,
    )


def _class(chosen: Any) -> Any:
    from kombu.utils.imports import symbol_by_name

    aliases: dict[str, str] = {}
    if isinstance(chosen, str) and not {".", ":"} & set(chosen):  # ``django``, as for ``-S``
        from celery.utils.imports import load_extension_class_names

        named: Any = load_extension_class_names("celery.beat_schedulers")
        aliases = dict(named)
    return symbol_by_name(chosen, aliases=aliases)


def _since(row: Any, schedule: Any) -> float | None:
    """From where the row counts if no tick knows it yet."""
    if row.last_run_at is not None:  # it ran under ``celery beat``
        return _seconds(row.last_run_at)
    if row.start_time is None:
        return None
    start = _seconds(row.start_time)
    every = getattr(schedule, "run_every", None)
    # An interval begins with a run.
    return start - (1.0 if every is None else every.total_seconds())


def _is_over(row: Any, now: float) -> bool:
    return row.expires is not None and now >= _seconds(row.expires)


def _seconds(moment: datetime) -> float:
    return maybe_make_aware(moment).timestamp()


def _is_aware() -> bool:
    from django.conf import settings

    return bool(getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True))


@contextmanager
def _database() -> Iterator[None]:
    """Between two ticks a connection may have died with the environment frozen: Django looks, and
    keeps one for as long as its ``CONN_MAX_AGE`` says.
    """
    from django.db import DatabaseError, InterfaceError, close_old_connections

    close_old_connections()
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        raise StoreUnavailableError(
            f"the schedule in Django's database could not be read or written ({error}); "
            "the next tick catches up"
        ) from error
    finally:
        close_old_connections()
