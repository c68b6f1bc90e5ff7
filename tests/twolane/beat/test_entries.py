from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab

from twolane.beat.entries import iso, read_entries, task_id
from twolane.errors import ConfigurationError

ENTRY: dict[str, Any] = {"task": "shop.report", "schedule": crontab(hour=7, minute=0)}


@pytest.mark.parametrize("when", [30, 30.0, timedelta(seconds=30)])
def test_an_interval_in_every_form(bench: Any, when: Any) -> None:
    entries = read_entries(bench.app({"e": {**ENTRY, "schedule": when}}))
    assert entries["e"].slots.interval_s == 30


def test_arguments_and_options(bench: Any) -> None:
    raw = {**ENTRY, "args": (1, 2), "kwargs": {"a": 3}, "options": {"queue": "slow", "expires": 60}}
    entry = read_entries(bench.app({"e": raw}))["e"]
    assert (entry.task, entry.args, entry.kwargs) == ("shop.report", (1, 2), {"a": 3})
    assert entry.options == {"queue": "slow", "expires": 60}


def test_a_disabled_entry_is_left_out(bench: Any) -> None:
    app = bench.app({"on": {**ENTRY, "enabled": True}, "off": {**ENTRY, "enabled": False}})
    assert list(read_entries(app)) == ["on"]


def test_a_relative_interval_is_not_a_plain_one(bench: Any) -> None:
    entries = read_entries(bench.app({"e": {**ENTRY, "schedule": 3600, "relative": True}}))
    assert entries["e"].slots.interval_s is None


def test_the_applications_own_entry_objects_are_read(bench: Any) -> None:
    app = bench.app()
    app.add_periodic_task(30.0, app.tasks["shop.report"].s(1, a=2), name="added", expires=9)
    entry = read_entries(app)["added"]
    assert (entry.args, entry.kwargs, entry.options) == ((1,), {"a": 2}, {"expires": 9})


def test_periodic_tasks_of_on_after_finalize_are_there(bench: Any) -> None:
    app = bench.app()

    @app.on_after_finalize.connect
    def add(sender: Any, **kwargs: Any) -> None:
        sender.add_periodic_task(30.0, sender.tasks["shop.report"].s(), name="late")

    assert list(read_entries(app)) == ["late"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"schedule": 30.0}, "names no task"),
        ({"task": "t"}, "is no schedule"),
        ({"task": "t", "schedule": "every day"}, "is no schedule"),
        ({"task": "t", "schedule": 0.5}, "the shortest interval is one second"),
        ({"task": "t", "schedule": 0}, "the shortest interval is one second"),
        (
            {**ENTRY, "options": {"headers": {"twolane_missed": "sometimes"}}},
            "use one of skip, latest, all",
        ),
    ],
)
def test_what_cannot_be_used_is_named(bench: Any, raw: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'broken'.*{reason}"):
        read_entries(bench.app({"broken": raw}))


def test_a_time_zone_that_is_not_there_is_said(bench: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'Mars/Olympus'.*tzdata"):
        read_entries(bench.app({"e": ENTRY}, timezone="Mars/Olympus"))


def test_the_cleanup_that_celery_adds(bench: Any) -> None:
    """Where the result backend does not expire its results by itself, beat cleans up nightly."""
    app = bench.app({"e": ENTRY})
    assert list(read_entries(app)) == ["e"]
    app = bench.app({"e": ENTRY})
    app.conf.result_backend = "file:///tmp"
    cleanup = read_entries(app)["celery.backend_cleanup"]
    assert cleanup.task == "celery.backend_cleanup"
    assert cleanup.options == {"expires": 43200}
    app = bench.app({"e": ENTRY}, result_expires=None)
    app.conf.result_backend = "file:///tmp"
    assert list(read_entries(app)) == ["e"]


def test_the_deadline_of_cron_entries(bench: Any) -> None:
    app = bench.app({"c": ENTRY, "i": {**ENTRY, "schedule": 60}}, beat_cron_starting_deadline=300)
    entries = read_entries(app)
    assert (entries["c"].deadline_s, entries["i"].deadline_s) == (300, None)


def test_a_changed_schedule_or_zone_has_another_fingerprint(bench: Any) -> None:
    prints = {
        read_entries(bench.app({"e": {**ENTRY, "schedule": when}}, timezone=zone))["e"].fingerprint
        for when in (crontab(hour=7, minute=0), crontab(hour=8, minute=0))
        for zone in ("UTC", "Europe/Berlin")
    }
    assert len(prints) == 4


def test_a_task_id_is_made_of_the_app_the_entry_and_the_slot(bench: Any) -> None:
    app, slot = bench.app(), bench.instant("2026-01-01T07:00:00Z")
    assert task_id(app, "digest", slot) == "38397f40-f12b-5e61-83fd-061c7b3d476b"
    assert task_id(bench.app(), "digest", slot) == task_id(app, "digest", slot)
    assert uuid.UUID(task_id(app, "digest", slot)).version == 5
    assert len({task_id(app, name, slot + n) for name in "ab" for n in (0, 1)}) == 4


def test_instants_as_text(bench: Any) -> None:
    assert iso(bench.instant("2026-01-01T07:00:00Z")) == "2026-01-01T07:00:00Z"
    assert iso(bench.instant("2026-01-01T07:00:00Z") + 0.25) == "2026-01-01T07:00:00.250000Z"
