"""django-celery-beat's tables, read at each tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Project

#: A beat function on a clock that the script sets, and what it published.
BEAT = """
from datetime import datetime, timedelta, timezone
from kombu import Queue
from twolane import BeatHandler
from twolane.state.memory import MemoryStore
from shop.celery import app
app.loader.init_worker()
from django_celery_beat.models import (
    ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule)

def instant(text):
    return datetime.fromisoformat(text).timestamp()

now = instant("2026-01-01T00:00:00+00:00")
store = MemoryStore(lambda: now)
made = []

def tick(at, beat=None):
    global now
    now = instant(at)
    if beat is None:
        if not made:
            made.append(BeatHandler(app, store=store, clock=lambda: now))
        beat = made[0]
    answer = beat({"version": "0", "time": at.replace("+00:00", "Z"), "detail": "{}"}, None)
    return sorted([each["entry"], each["slot"]] for each in answer["published"])

def messages(name="tasks"):
    with app.connection_for_write() as connection:
        queue = Queue(name)(connection.default_channel)
        queue.declare()
        found = []
        while (message := queue.get(no_ack=True)) is not None:
            found.append(message)
        return found

def row(name):
    found = PeriodicTask.objects.get(name=name)
    return [found.enabled, found.total_run_count, str(found.last_run_at)]

minutely = IntervalSchedule.objects.create(every=1, period="minutes")
"""

ROWS = (
    BEAT
    + """
tokyo = CrontabSchedule.objects.create(hour="7", minute="0", timezone="Asia/Tokyo")
PeriodicTask.objects.create(name="each minute", task="orders.tasks.add", interval=minutely,
    args="[2, 3]", queue="other", headers='{"tenant": "a"}', priority=3, expire_seconds=30)
PeriodicTask.objects.create(name="morning", task="orders.tasks.add", crontab=tokyo,
    kwargs='{"x": 1, "y": 2}')
PeriodicTask.objects.create(name="off", task="orders.tasks.count", interval=minutely, enabled=False)
PeriodicTask.objects.create(name="broken", task="orders.tasks.add", interval=minutely)
first = tick("2026-01-01T21:59:00+00:00")
PeriodicTask.objects.filter(name="broken").update(args="{[")
say(first=first)
say(second=tick("2026-01-01T22:00:00+00:00"), again=tick("2026-01-01T22:00:00+00:00"))
[other] = messages("other")
[morning] = messages()
say(other=[other.payload[:2], {name: other.headers.get(name) for name in (
        "task", "tenant", "periodic_task_name", "celery_beat_task", "twolane_slot")},
    bool(other.headers["expires"]), other.properties["priority"]],
    morning=morning.payload[:2])
say(minute_row=row("each minute"), morning_row=row("morning"), off_row=row("off"))

PeriodicTask.objects.filter(name="each minute").update(enabled=False)
enabled = PeriodicTask.objects.get(name="off")
enabled.enabled = True
enabled.save()
say(third=tick("2026-01-01T22:01:00+00:00"), fourth=tick("2026-01-01T22:02:00+00:00"))
listed = made[0]({"twolane": {"list": 2}}, None)["entries"]
say(listed={each["name"]: [each["schedule"], each["next"], each["last"]] for each in listed})
ran = made[0]({"twolane": {"run": "morning"}}, None)
say(ran=ran["entry"])
"""
)


def test_rows_are_sent_as_they_stand_at_each_tick(project: Project) -> None:
    ran = project.script(ROWS)
    said = ran.said
    assert said["first"] == []
    assert said["second"] == [
        ["each minute", "2026-01-01T22:00:00Z"],
        ["morning", "2026-01-01T22:00:00Z"],
    ]
    assert said["again"] == []
    arguments, headers, expires, priority = said["other"]
    assert arguments == [[2, 3], {}]
    assert headers == {
        "task": "orders.tasks.add",
        "tenant": "a",
        "periodic_task_name": "each minute",
        "celery_beat_task": True,
        "twolane_slot": "2026-01-01T22:00:00Z",
    }
    assert (expires, priority) == (True, 3)
    assert said["morning"] == [[], {"x": 1, "y": 2}]
    assert said["minute_row"] == [True, 1, "2026-01-01 22:00:00+00:00"]
    assert said["morning_row"] == [True, 1, "2026-01-01 22:00:00+00:00"]
    assert said["off_row"] == [False, 0, "None"]
    assert said["third"] == [], "a row that has just been switched on counts from now"
    assert said["fourth"] == [["off", "2026-01-01T22:02:00Z"]]
    assert "entry 'broken' is not sent: its arguments are not JSON" in ran.output
    assert said["listed"]["morning"][1:] == [
        ["2026-01-02T22:00:00Z", "2026-01-03T22:00:00Z"],
        "2026-01-01T22:00:00Z",
    ]
    assert set(said["listed"]) == {"off", "morning", "celery.backend_cleanup"}
    assert said["ran"] == "morning"


ENDS = (
    BEAT
    + """
at = datetime(2026, 1, 1, 10, 3, tzinfo=timezone.utc)
past = datetime(2026, 1, 1, 9, 0, tzinfo=timezone.utc)
quick = IntervalSchedule.objects.create(every=10, period="seconds")
noon = CrontabSchedule.objects.create(hour="12", minute="0")
seven = IntervalSchedule.objects.create(every=7, period="minutes")
one = dict(task="orders.tasks.add", args="[1, 1]")
for name, when in (("clocked", at), ("clocked before", past)):
    PeriodicTask.objects.create(
        name=name, clocked=ClockedSchedule.objects.create(clocked_time=when), one_off=True, **one)
PeriodicTask.objects.create(name="once", interval=quick, one_off=True, **one)
PeriodicTask.objects.create(name="later", interval=seven,
    start_time=datetime(2026, 1, 1, 10, 2, tzinfo=timezone.utc), **one)
PeriodicTask.objects.create(name="later at noon", crontab=noon,
    start_time=datetime(2026, 1, 1, 10, 2, tzinfo=timezone.utc), **one)
PeriodicTask.objects.create(name="ends", interval=minutely,
    expires=datetime(2026, 1, 1, 10, 2, tzinfo=timezone.utc), **one)
PeriodicTask.objects.create(name="ran before", interval=IntervalSchedule.objects.create(
    every=1, period="days"), last_run_at=datetime(2025, 12, 31, 10, 4, tzinfo=timezone.utc), **one)
ticks = [tick(f"2026-01-01T10:{minute:02}:00+00:00") for minute in range(12)]
say(ticks=ticks, rows={name: row(name) for name in (
    "clocked", "clocked before", "once", "later", "ends", "ran before")})
say(noon=[tick("2026-01-01T11:59:00+00:00"), tick("2026-01-01T12:00:00+00:00")])
again = PeriodicTask.objects.get(name="once")
again.enabled = True
again.save()
say(again=[tick("2026-01-01T12:01:00+00:00"), tick("2026-01-01T12:02:00+00:00")])
"""
)


def test_rows_begin_and_end_as_under_celery_beat(project: Project) -> None:
    said = project.script(ENDS).said
    ticks = said["ticks"]
    sent = [[number, name, slot] for number, each in enumerate(ticks) for name, slot in each]

    def of(name: str) -> list[list[object]]:
        return [[number, slot] for number, each, slot in sent if each == name]

    assert of("clocked") == [[3, "2026-01-01T10:03:00Z"]]
    assert of("clocked before") == [[0, "2026-01-01T09:00:00Z"]]
    assert of("once") == [[0, "2026-01-01T10:00:10Z"]]
    assert of("later") == [[2, "2026-01-01T10:02:00Z"], [9, "2026-01-01T10:09:00Z"]]
    assert of("ends") == [[1, "2026-01-01T10:01:00Z"]]
    assert of("ran before") == [[4, "2026-01-01T10:04:00Z"]]
    assert said["rows"]["clocked"] == [False, 0, "None"]
    assert said["rows"]["clocked before"] == [False, 0, "None"]
    assert said["rows"]["once"] == [False, 0, "None"]
    assert said["rows"]["later"] == [True, 2, "2026-01-01 10:09:00+00:00"]
    assert said["rows"]["ends"] == [False, 0, "None"]
    assert ["later at noon", "2026-01-01T12:00:00Z"] in said["noon"][1]
    assert ["later at noon", "2026-01-01T12:00:00Z"] not in said["noon"][0]
    once = [slot for each in said["again"] for name, slot in each if name == "once"]
    assert once == ["2026-01-01T12:01:10Z"], "switched on again, it is sent again"


#: The solar calendar, entries of beat_schedule, and a database that goes away.
CODE = (
    BEAT
    + """
app.conf.beat_schedule = {"from code": {"task": "orders.tasks.count", "schedule": 60.0,
    "options": {"queue": "other"}}}
PeriodicTask.objects.create(name="sunrise", task="orders.tasks.count",
    solar=SolarSchedule.objects.create(event="sunrise", latitude=52.52, longitude=13.405))
tick("2026-01-01T06:59:00+00:00")
say(code=[list(PeriodicTask.objects.order_by("name").values_list("name", flat=True)),
    tick("2026-01-01T07:00:00+00:00")])
say(sun=[tick(f"2026-01-01T07:{minute}:00+00:00") for minute in range(14, 19)])
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("ALTER TABLE django_celery_beat_periodictask RENAME TO away")
try:
    tick("2026-01-01T08:00:00+00:00")
except Exception as error:
    say(down=[type(error).__name__, str(error)])
with connection.cursor() as cursor:
    cursor.execute("ALTER TABLE away RENAME TO django_celery_beat_periodictask")
other = BeatHandler(app, store=store, clock=lambda: now)
say(up=tick("2026-01-01T08:01:00+00:00", other))
"""
)


def test_code_the_sun_and_a_database_that_goes_away(project: Project) -> None:
    said = project.script(CODE).said
    names, sent = said["code"]
    assert names == ["celery.backend_cleanup", "from code", "sunrise"]
    assert sent == [["from code", "2026-01-01T07:00:00Z"]]
    sun = [slot for each in said["sun"] for name, slot in each if name == "sunrise"]
    assert len(sun) == 1
    assert sun[0].startswith("2026-01-01T07:1")
    assert said["down"][0] == "StoreUnavailableError"
    assert "the next tick catches up" in said["down"][1]
    assert ["from code", "2026-01-01T08:01:00Z"] in said["up"]


OTHER = """
from celery import Celery
from twolane import BeatHandler
from twolane.state.memory import MemoryStore
app = Celery("shop")
app.conf.update(broker_url="memory://", beat_scheduler="redbeat.RedBeatScheduler",
                beat_schedule={"a": {"task": "t", "schedule": 60.0}})
beat = BeatHandler(app, store=MemoryStore())
say(entries=sorted(beat.entries()))
"""


def test_a_scheduler_that_is_not_run_is_named(project: Project) -> None:
    ran = project.script(OTHER)
    assert "a" in ran.said["entries"]
    assert "beat_scheduler is redbeat.schedulers:RedBeatScheduler, which BeatHandler" in ran.output
