from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedstate, schedule, solar
from celery.utils.time import ffwd

from twolane.beat.entries import Slots, describe, plainly

from ...installed import since  # noqa: TID252


def instant(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def slots_of(source: Any, zone: str = "UTC", **conf: Any) -> Slots:
    app = Celery(set_as_current=False)
    app.conf.update(timezone=zone, **conf)
    source.app = app
    return Slots(source, app)


def chain(source: Any, after: str, count: int, zone: str = "UTC", **conf: Any) -> list[str]:
    slots, at, found = slots_of(source, zone, **conf), instant(after), []
    for _ in range(count):
        slot = slots.after(at)
        assert slot is not None
        at = slot
        found.append(datetime.fromtimestamp(at, UTC).isoformat().removeprefix("2026-")[:-6])
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (schedule(10.0), ["01-01T07:00:10", "01-01T07:00:20"]),
        (schedule(7.25), ["01-01T07:00:07.250000", "01-01T07:00:14.500000"]),
        (schedule(timedelta(minutes=90)), ["01-01T08:30:00", "01-01T10:00:00"]),
        (schedule(timedelta(hours=1), relative=True), ["01-01T08:00:00", "01-01T09:00:00"]),
        (schedule(timedelta(days=1), relative=True), ["01-02T00:00:00", "01-03T00:00:00"]),
        (crontab(minute="*/15"), ["01-01T07:15:00", "01-01T07:30:00"]),
        (crontab(minute=0, hour="7,19"), ["01-01T19:00:00", "01-02T07:00:00"]),
        (crontab(minute=0, hour=0, day_of_week="sun"), ["01-04T00:00:00", "01-11T00:00:00"]),
        (
            crontab(minute=0, hour=0, day_of_month="1-7", day_of_week=1),
            ["01-05T00:00:00", "02-02T00:00:00"],
        ),
        (
            crontab(minute=0, hour=0, day_of_month=1, month_of_year="*/3"),
            ["04-01T00:00:00", "07-01T00:00:00"],
        ),
        (crontab(minute="0,30", hour="8-17/3"), ["01-01T08:00:00", "01-01T08:30:00"]),
        (crontab(minute=[5, 10], hour={9}), ["01-01T09:05:00", "01-01T09:10:00"]),  # type: ignore[arg-type]
        (
            crontab.from_string("0 12 * feb mon-wed")
            if since("celery", 5, 5)
            else crontab(minute="0", hour="12", day_of_week="mon-wed", month_of_year="2"),
            ["02-02T12:00:00", "02-03T12:00:00"],
        ),
    ],
)
def test_every_form(source: Any, expected: list[str]) -> None:
    assert chain(source, "2026-01-01T07:00:00Z", len(expected)) == expected


def test_a_times_of_day_are_those_of_the_apps_zone() -> None:
    nine = crontab(minute=0, hour=9)
    assert chain(nine, "2026-03-28T00:00:00Z", 2, "Europe/Berlin") == [
        "03-28T08:00:00",
        "03-29T07:00:00",
    ]


def test_a_time_that_does_not_exist_runs_when_the_clock_has_leapt() -> None:
    """As Celery does it: 02:30 on 29 March is 03:30. (EventBridge Scheduler skips it.)"""
    assert chain(crontab(minute=30, hour=2), "2026-03-28T00:00:00Z", 3, "Europe/Berlin") == [
        "03-28T01:30:00",
        "03-29T01:30:00",
        "03-30T00:30:00",
    ]


def test_a_time_that_comes_twice_runs_the_first_time() -> None:
    assert chain(crontab(minute=30, hour=2), "2026-10-24T00:00:00Z", 3, "Europe/Berlin") == [
        "10-24T00:30:00",
        "10-25T00:30:00",
        "10-26T01:30:00",
    ]


def test_local_time_where_utc_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chain(
        crontab(minute=0, hour=9), "2026-07-01T00:00:00Z", 1, "Asia/Kathmandu", enable_utc=False
    )
    assert found == ["07-01T03:15:00"]


class EveryOtherHour(BaseSchedule):
    """A pure schedule class with nothing but ``is_due``, which gives rough hints."""

    def is_due(self, last_run_at: datetime) -> schedstate:
        now = self.now()
        fits = now.hour % 2 == 0 and now.minute == 0
        if fits and now - last_run_at > timedelta(minutes=1):
            return schedstate(is_due=True, next=60.0)
        return schedstate(is_due=False, next=60.0 - now.second)


class Never(BaseSchedule):
    def is_due(self, last_run_at: datetime) -> schedstate:
        return schedstate(is_due=False, next=3_600.0)


class Stuck(crontab):
    def remaining_estimate(self, last_run_at: datetime, ffwd: Any = None) -> timedelta:
        return timedelta(0)


def test_a_schedule_class_of_ones_own_is_asked_as_beat_asks_it() -> None:
    assert chain(EveryOtherHour(), "2026-01-01T07:10:00Z", 3) == [
        "01-01T08:00:00",
        "01-01T10:00:00",
        "01-01T12:00:00",
    ]


def test_a_schedule_that_is_never_due_has_no_slot() -> None:
    assert slots_of(Never()).after(0.0) is None


def test_a_schedule_that_does_not_move_on_is_said_so() -> None:
    with pytest.raises(ValueError, match="does not move on"):
        slots_of(Stuck(minute=0)).after(0.0)


def test_the_applications_own_schedule_is_left_as_it_is() -> None:
    source = crontab(minute=0)
    slots_of(source).after(0.0)
    assert source.nowfun is None  # type: ignore[attr-defined]


def test_solar() -> None:
    # The almanac has sunset in Berlin at 16:02 local time on 1 January 2026, at 16:03 a day later.
    found = chain(solar("sunset", 52.52, 13.405), "2026-01-01T07:00:00Z", 2)
    assert [each[:11] for each in found] == ["01-01T15:02", "01-02T15:03"]


class Counting(crontab):
    """Counts how often it is asked."""

    asked = 0

    def remaining_estimate(self, last_run_at: datetime, ffwd: Any = ffwd) -> timedelta:
        Counting.asked += 1
        return super().remaining_estimate(last_run_at, ffwd)


def test_recent_slots_after_a_long_outage_do_not_follow_the_whole_chain() -> None:
    begin, end = instant("2025-01-01T00:00:00Z"), instant("2026-01-01T00:00:00Z")
    for source in (schedule(1.0), Counting(), Counting(minute="*/2", hour="1-3")):
        slots = slots_of(source)
        found, last = slots.recent(begin, end, 5)
        assert len(found) == 5
        assert found[-1] == last
        assert list(found) == sorted(set(found))
        assert (slots.after(last) or 0) > end
    assert 0 < Counting.asked < 5_000


def test_recent_slots_are_those_of_the_chain() -> None:
    begin, end = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
    for source in (schedule(400.0), crontab(minute="*/7"), crontab(minute=3, hour="*/5")):
        slots = slots_of(source)
        every, at = [], slots.after(instant(begin))
        while at is not None and at <= instant(end):
            every.append(at)
            at = slots.after(at)
        for limit in (1, 3, 100):
            found, last = slots.recent(instant(begin), instant(end), limit)
            assert list(found) == every[-limit:]
            assert last == every[-1]


def test_recent_slots_of_a_schedule_that_is_dense_only_at_times() -> None:
    """A thousand steps do not get out of January; the latest slot is at its end all the same."""
    slots = slots_of(crontab(month_of_year=1))
    found, _ = slots.recent(instant("2026-01-29T00:00:00Z"), instant("2026-12-01T00:00:00Z"), 1)
    assert datetime.fromtimestamp(found[0], UTC).isoformat() == "2026-01-31T23:59:00+00:00"


def test_no_recent_slot() -> None:
    slots = slots_of(crontab(minute=0, hour=12))
    found, last = slots.recent(100.0, 200.0, 1)
    assert (list(found), last) == ([], 100.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (schedule(30.001), schedule(30.001), True),
        (schedule(30.001), schedule(30.002), False),
        (schedule(3600.0), schedule(3600.0, relative=True), False),
        (crontab(minute="0,5"), crontab(minute=[5, 0]), True),  # type: ignore[arg-type]
        (crontab(minute=0), crontab(hour=0), False),
    ],
)
def test_descriptions_tell_schedules_apart(one: Any, other: Any, same: bool) -> None:
    assert (describe(one) == describe(other)) is same


def test_a_schedule_in_plain_words() -> None:
    assert plainly(crontab(minute=0, hour=7)) == "crontab: 0 7 * * *"
    assert plainly(schedule(90.0)) == "freq: 1.50 minutes"
