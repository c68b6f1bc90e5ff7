from __future__ import annotations

from typing import Any

from celery.schedules import crontab, solar

from twolane.beat.entries import task_id
from twolane.beat.inspection import list_entries

DAILY: dict[str, Any] = {"task": "shop.report", "schedule": crontab(hour=7, minute=0)}
OFTEN: dict[str, Any] = {"task": "shop.report", "schedule": 20.0}


def listed(bench: Any, app: Any, at: str, **options: Any) -> list[dict[str, Any]]:
    now = bench.instant(at)
    return [each.as_json() for each in list_entries(app, bench.store, now, **options)]


def test_before_the_first_tick(bench: Any) -> None:
    app = bench.app({"often": OFTEN, "digest": DAILY}, timezone="Europe/Berlin")
    assert listed(bench, app, "2026-03-28T00:00:00Z") == [
        {
            "name": "digest",
            "task": "shop.report",
            "schedule": "crontab: 0 7 * * *",
            "timezone": "Europe/Berlin",
            "missed": "latest",
            "next": ["2026-03-28T06:00:00Z", "2026-03-29T05:00:00Z", "2026-03-30T05:00:00Z"],
            "last": None,
            "taskId": None,
        },
        {
            "name": "often",
            "task": "shop.report",
            "schedule": "freq: 20.00 seconds",
            "timezone": "Europe/Berlin",
            "missed": "latest",
            "next": ["2026-03-28T00:00:20Z", "2026-03-28T00:00:40Z", "2026-03-28T00:01:00Z"],
            "last": None,
            "taskId": None,
        },
    ]


def test_the_last_run_and_its_task(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    handler = bench.handler(app)
    bench.tick(handler, "2026-01-01T07:00:00Z")
    [message] = bench.messages(app)
    [entry] = listed(bench, app, "2026-01-01T12:00:00Z", count=1)
    assert entry["last"] == "2026-01-01T07:00:00Z"
    assert entry["taskId"] == message.headers["id"]
    assert entry["next"] == ["2026-01-02T07:00:00Z"]


def test_what_is_sent_ahead_has_not_run_yet(bench: Any) -> None:
    app = bench.app({"often": OFTEN})
    bench.tick(bench.handler(app), "2026-01-01T07:00:00Z")
    ids = {each.headers["twolane_slot"]: each.headers["id"] for each in bench.messages(app)}
    [entry] = listed(bench, app, "2026-01-01T07:00:45Z")
    assert entry["last"] == "2026-01-01T07:00:40Z"
    assert entry["taskId"] == ids["2026-01-01T07:00:40Z"]
    assert entry["next"][0] == "2026-01-01T07:02:00Z"


def test_what_is_sent_ahead_by_the_sun(bench: Any) -> None:
    dusk = {"task": "shop.report", "schedule": solar("sunset", 52.52, 13.405)}
    app = bench.app({"dusk": dusk})
    handler = bench.handler(app)
    bench.tick(handler, "2026-01-01T15:02:00Z")
    [(_, slot)] = bench.tick(handler, "2026-01-02T15:03:00Z")
    [entry] = listed(bench, app, "2026-01-02T15:03:30Z", count=1)
    assert slot > "2026-01-02T15:03:30Z"
    assert entry["last"][:16] == "2026-01-01T15:02"


def test_after_an_outage_the_next_times_are_in_the_future(bench: Any) -> None:
    app = bench.app({"often": OFTEN, "digest": DAILY})
    bench.tick(bench.handler(app), "2026-01-01T07:00:00Z")
    for entry in listed(bench, app, "2026-07-01T00:00:10Z", count=2):
        assert len(entry["next"]) == 2
        assert entry["next"][0] > "2026-07-01T00:00:10Z"


def test_what_an_entrys_own_event_sent(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    bench.now = bench.instant("2026-01-01T07:00:05Z")
    bench.handler(app)({"twolane": {"entry": "digest", "slot": "2026-01-01T07:00:00Z"}}, None)
    [entry] = listed(bench, app, "2026-01-01T12:00:00Z", count=1)
    assert entry["last"] == "2026-01-01T07:00:00Z"
    assert entry["taskId"] == task_id(app, "digest", bench.instant("2026-01-01T07:00:00Z"))
