from __future__ import annotations

import json
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery.schedules import crontab

from twolane.errors import ConfigurationError, PublishError
from twolane.state.redis import RedisStore

if TYPE_CHECKING:
    from twolane.state.memory import MemoryStore

DAILY = {"task": "shop.report", "schedule": crontab(hour=7, minute=0)}
MINUTELY = {"task": "shop.report", "schedule": 60.0}


def test_a_tick_publishes_what_is_due_and_nothing_else(bench: Any) -> None:
    app = bench.app({"digest": DAILY, "weekly": {**DAILY, "schedule": timedelta(days=7)}})
    beat = bench.handler(app)
    assert bench.tick(beat, "2026-01-01T06:59:00Z") == []
    assert bench.tick(beat, "2026-01-01T07:00:00Z") == [("digest", "2026-01-01T07:00:00Z")]
    assert bench.tick(beat, "2026-01-01T07:01:00Z") == []
    [message] = bench.messages(app)
    assert message.headers["task"] == "shop.report"
    assert message.headers["celery_beat_task"] is True


def test_the_answer_says_what_was_published(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    bench.now = bench.instant("2026-01-01T07:00:00Z")
    assert bench.handler(app)(bench.event("2026-01-01T07:00:00Z"), None) == {
        "tick": "2026-01-01T07:00:00Z",
        "published": [
            {
                "entry": "digest",
                "slot": "2026-01-01T07:00:00Z",
                "taskId": "38397f40-f12b-5e61-83fd-061c7b3d476b",
            }
        ],
    }
    [message] = bench.messages(app)
    assert message.headers["id"] == "38397f40-f12b-5e61-83fd-061c7b3d476b"


def test_a_tick_that_comes_twice_publishes_once(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    one, other = bench.handler(app), bench.handler(app)
    bench.tick(one, "2026-01-01T07:00:00Z")
    assert bench.tick(other, "2026-01-01T07:00:00Z", late_s=30) == []
    assert bench.tick(one, "2026-01-01T07:00:00Z", late_s=45) == []
    assert len(bench.messages(app)) == 1


def test_a_tick_that_comes_out_of_order_publishes_nothing_again(bench: Any) -> None:
    app = bench.app({"minutely": MINUTELY})
    beat = bench.handler(app)
    bench.tick(beat, "2026-01-01T07:00:00Z")
    assert bench.tick(beat, "2026-01-01T07:02:00Z") == [("minutely", "2026-01-01T07:02:00Z")]
    assert bench.tick(beat, "2026-01-01T07:01:00Z", late_s=70) == []


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_ticks_at_once_publish_once(bench: Any, where: str, request: pytest.FixtureRequest) -> None:
    """Eight execution environments at the same moment, and every slot has one of them."""
    if where == "redis":
        client = redis.Redis.from_url(request.getfixturevalue("redis_url"))
        bench.store = RedisStore(lambda: client)
    schedule = {f"e{number}": DAILY for number in range(20)}
    app = bench.app(schedule)
    handlers = [bench.handler(app) for _ in range(8)]
    bench.now = bench.instant("2026-01-01T07:00:00Z")
    start = threading.Barrier(len(handlers))
    answers: list[Any] = []

    def run(handler: Any) -> None:
        start.wait()
        answers.append(handler(bench.event("2026-01-01T07:00:00Z"), None))

    threads = [threading.Thread(target=run, args=(handler,)) for handler in handlers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(handlers)
    published = [each["entry"] for answer in answers for each in answer["published"]]
    assert sorted(published) == sorted(schedule)
    assert len(bench.messages(app)) == 20
    if where == "redis":
        client.close()


def test_slots_between_ticks_are_published_ahead_with_their_time(bench: Any) -> None:
    app = bench.app({"often": {"task": "shop.report", "schedule": 20.0}})
    beat = bench.handler(app)
    first = bench.tick(beat, "2026-01-01T07:00:00Z")
    assert [slot for _, slot in first] == [
        "2026-01-01T07:00:20Z",
        "2026-01-01T07:00:40Z",
        "2026-01-01T07:01:00Z",
        "2026-01-01T07:01:20Z",
        "2026-01-01T07:01:40Z",
    ]
    second = bench.tick(beat, "2026-01-01T07:01:00Z", late_s=59)
    assert [slot for _, slot in second] == [
        "2026-01-01T07:02:00Z",
        "2026-01-01T07:02:20Z",
        "2026-01-01T07:02:40Z",
    ]
    etas = [message.headers["eta"] for message in bench.messages(app)]
    assert etas[:2] == ["2026-01-01T07:00:20+00:00", "2026-01-01T07:00:40+00:00"]
    assert len(etas) == len(set(etas)) == 8


def test_ticks_off_the_minute_do_not_make_a_time_of_day_late(bench: Any) -> None:
    """``rate(1 minute)`` ticks at whatever second the schedule was made."""
    app = bench.app({"digest": DAILY})
    beat = bench.handler(app)
    bench.tick(beat, "2026-01-01T06:57:37Z")
    assert bench.tick(beat, "2026-01-01T06:58:37Z") == [("digest", "2026-01-01T07:00:00Z")]
    assert bench.messages(app)[0].headers["eta"] == "2026-01-01T07:00:00+00:00"


@pytest.mark.parametrize(
    ("policy", "published"),
    [
        ("skip", ["2026-01-01T12:00:00Z"]),
        ("latest", ["2026-01-01T12:00:00Z"]),
        (
            "all",
            [
                "2026-01-01T09:00:00Z",
                "2026-01-01T10:00:00Z",
                "2026-01-01T11:00:00Z",
                "2026-01-01T12:00:00Z",
            ],
        ),
    ],
)
def test_missed_ticks_follow_the_policy(bench: Any, policy: str, published: list[str]) -> None:
    hourly = {"task": "shop.report", "schedule": crontab(minute=0)}
    beat = bench.handler(bench.app({"hourly": hourly}), missed=policy)
    bench.tick(beat, "2026-01-01T08:00:00Z")
    assert [slot for _, slot in bench.tick(beat, "2026-01-01T12:00:00Z")] == published


@pytest.mark.parametrize(
    ("policy", "published"), [("skip", []), ("latest", ["2026-01-01T12:00:00Z"])]
)
def test_a_slot_is_missed_once_its_minute_is_over(
    bench: Any, policy: str, published: list[str]
) -> None:
    hourly = {"task": "shop.report", "schedule": crontab(minute=0)}
    beat = bench.handler(bench.app({"hourly": hourly}), missed=policy)
    bench.tick(beat, "2026-01-01T11:30:00Z")
    assert [slot for _, slot in bench.tick(beat, "2026-01-01T12:10:00Z")] == published
    assert bench.tick(beat, "2026-01-01T12:11:00Z") == []


def test_an_entry_states_its_own_policy(bench: Any) -> None:
    all_of_it = {**DAILY, "options": {"headers": {"twolane_missed": "all"}}}
    beat = bench.handler(bench.app({"digest": DAILY, "invoice": all_of_it}))
    bench.tick(beat, "2026-01-01T08:00:00Z")
    entries = [entry for entry, _ in bench.tick(beat, "2026-01-04T08:00:00Z")]
    assert sorted(entries) == ["digest", "invoice", "invoice", "invoice"]


def test_all_is_bounded(bench: Any) -> None:
    beat = bench.handler(bench.app({"minutely": MINUTELY}), missed="all")
    bench.tick(beat, "2026-01-01T00:00:00Z")
    published = bench.tick(beat, "2026-02-01T00:00:00Z")
    assert len(published) == 100
    assert published[-1] == ("minutely", "2026-02-01T00:00:00Z")


def test_a_broker_that_fails_leaves_the_slot_to_the_retry(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = bench.app({"digest": DAILY, "other": {**DAILY, "task": "shop.other"}})
    beat = bench.handler(app)
    send_task = app.send_task

    def refuse_other(name: str, *args: Any, **kwargs: Any) -> Any:
        return (_unreachable if name == "shop.other" else send_task)(name, *args, **kwargs)

    monkeypatch.setattr(app, "send_task", refuse_other)
    with pytest.raises(PublishError, match=r"1 of 2 .*\(other\)"):
        bench.tick(beat, "2026-01-01T07:00:00Z")
    assert [message.headers["task"] for message in bench.messages(app)] == ["shop.report"]
    monkeypatch.undo()
    assert bench.tick(bench.handler(app), "2026-01-01T07:00:00Z", late_s=60) == [
        ("other", "2026-01-01T07:00:00Z")
    ]
    assert [message.headers["task"] for message in bench.messages(app)] == ["shop.other"]


def test_a_tick_that_died_half_way_is_finished_by_a_later_one(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its claim and its message: the claim runs out, the slot is sent."""
    app = bench.app({"digest": DAILY})
    beat = bench.handler(app)
    report = app.tasks["shop.report"]
    monkeypatch.setattr(report, "apply_async", _killed)
    with pytest.raises(KeyboardInterrupt):
        bench.tick(beat, "2026-01-01T07:00:00Z")
    monkeypatch.undo()
    assert bench.tick(bench.handler(app), "2026-01-01T07:00:00Z", late_s=59) == []
    assert bench.tick(bench.handler(app), "2026-01-01T07:01:00Z", late_s=1) == [
        ("digest", "2026-01-01T07:00:00Z")
    ]


def test_a_claim_lasts_as_long_as_its_invocation(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 3_000

    app = bench.app({"digest": DAILY})
    bench.now = bench.instant("2026-01-01T07:00:00Z")
    event = bench.event("2026-01-01T07:00:00Z")
    monkeypatch.setattr(app.tasks["shop.report"], "apply_async", _killed)
    with pytest.raises(KeyboardInterrupt):
        bench.handler(app)(event, Context())
    monkeypatch.undo()
    bench.now += 3.5
    assert bench.handler(app)(event, Context())["published"] == []
    bench.now += 1
    assert len(bench.handler(app)(event, Context())["published"]) == 1


def test_a_deploy_adds_changes_and_removes_entries(bench: Any) -> None:
    bench.tick(bench.handler(bench.app({"a": DAILY, "b": DAILY})), "2026-01-01T06:00:00Z")
    later = {**DAILY, "schedule": crontab(hour=9, minute=0)}
    second = bench.handler(bench.app({"b": later, "c": MINUTELY}))
    assert bench.tick(second, "2026-01-01T06:10:00Z") == []
    assert bench.tick(second, "2026-01-01T06:11:00Z") == [("c", "2026-01-01T06:11:00Z")]
    published = bench.tick(second, "2026-01-01T09:00:00Z")
    assert ("b", "2026-01-01T09:00:00Z") in published
    [(text, _)] = bench.store._items.values()
    assert sorted(json.loads(text)["entries"]) == ["b", "c"]


def test_a_changed_schedule_does_not_make_up_for_what_it_never_had(bench: Any) -> None:
    everything = {"options": {"headers": {"twolane_missed": "all"}}}
    bench.tick(bench.handler(bench.app({"a": {**DAILY, **everything}})), "2026-01-01T07:00:00Z")
    often = {**DAILY, **everything, "schedule": crontab(minute="*/15")}
    published = bench.tick(bench.handler(bench.app({"a": often})), "2026-01-01T15:00:00Z")
    assert published == [("a", "2026-01-01T15:00:00Z")]


def test_a_claim_whose_entry_is_gone_is_dropped(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = bench.app({"a": DAILY, "b": DAILY})
    monkeypatch.setattr(app.tasks["shop.report"], "apply_async", _unreachable)
    with pytest.raises(PublishError):
        bench.tick(bench.handler(app), "2026-01-01T07:00:00Z")
    after = bench.handler(bench.app({"b": DAILY}))
    assert bench.tick(after, "2026-01-01T07:01:00Z") == [("b", "2026-01-01T07:00:00Z")]
    [(text, _)] = bench.store._items.values()
    assert json.loads(text)["outbox"] == []


@pytest.mark.parametrize(("policy", "made_up"), [("skip", 0), ("latest", 1), ("all", 4)])
def test_missed_slots_are_said(
    bench: Any, caplog: pytest.LogCaptureFixture, policy: str, made_up: int
) -> None:
    hourly = {"task": "shop.report", "schedule": crontab(minute=0)}
    beat = bench.handler(bench.app({"hourly": hourly}), missed=policy)
    bench.tick(beat, "2026-01-01T08:00:00Z")
    caplog.clear()
    bench.tick(beat, "2026-01-01T12:10:00Z")
    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.message == (
        "entry 'hourly' missed its ticks since 2026-01-01T09:00:00Z: "
        f"{made_up} of its slots are made up for"
    )
    caplog.clear()
    bench.tick(beat, "2026-01-01T13:00:00Z", late_s=59)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_an_entry_that_comes_back_does_not_make_up_for_its_absence(bench: Any) -> None:
    with_it, without = {"a": DAILY, "b": DAILY}, {"b": DAILY}
    bench.tick(bench.handler(bench.app(with_it)), "2026-01-01T08:00:00Z")
    bench.tick(bench.handler(bench.app(without)), "2026-01-02T08:00:00Z")
    again = bench.handler(bench.app(with_it))
    assert bench.tick(again, "2026-01-05T08:00:00Z") == [("b", "2026-01-05T07:00:00Z")]
    assert len(bench.tick(again, "2026-01-06T07:00:00Z")) == 2


def test_one_schedule_that_fails_does_not_stop_the_others(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(crontab):
        def remaining_estimate(self, last_run_at: Any, ffwd: Any = None) -> timedelta:
            raise RuntimeError("no such day")

    broken = {"task": "shop.report", "schedule": Broken(hour=7, minute=0)}
    beat = bench.handler(bench.app({"broken": broken, "digest": DAILY}))
    assert bench.tick(beat, "2026-01-01T07:00:00Z") == [("digest", "2026-01-01T07:00:00Z")]
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "'broken'" in record.message
    assert record.exc_info is not None


def test_an_entrys_own_event_publishes_its_slot_once(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    bench.now = bench.instant("2026-01-01T07:00:03Z")
    event = {"twolane": {"entry": "digest", "slot": "2026-01-01T07:00:00Z"}}
    first = bench.handler(app)(event, None)
    assert first["published"][0]["taskId"] == "38397f40-f12b-5e61-83fd-061c7b3d476b"
    assert bench.handler(app)(event, None)["published"] == []
    assert len(bench.messages(app)) == 1


def test_an_entrys_own_event_is_tried_again_after_a_failure(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = bench.app({"digest": DAILY})
    bench.now = bench.instant("2026-01-01T07:00:03Z")
    event = {"twolane": {"entry": "digest", "slot": "2026-01-01T07:00:00Z"}}
    monkeypatch.setattr(app.tasks["shop.report"], "apply_async", _unreachable)
    with pytest.raises(PublishError):
        bench.handler(app)(event, None)
    monkeypatch.undo()
    assert len(bench.handler(app)(event, None)["published"]) == 1


def test_an_event_for_an_unknown_entry_says_what_to_do(bench: Any) -> None:
    event = {"twolane": {"entry": "gone", "slot": "2026-01-01T07:00:00Z"}}
    with pytest.raises(ConfigurationError, match="`twolane schedules`"):
        bench.handler(bench.app())(event, None)


def test_entries_that_are_added_later_are_seen(bench: Any) -> None:
    app = bench.app()
    beat = bench.handler(app)
    bench.tick(beat, "2026-01-01T07:00:00Z")
    app.add_periodic_task(60.0, app.tasks["shop.report"].s(), name="late")
    bench.tick(beat, "2026-01-01T07:01:00Z")
    assert bench.tick(beat, "2026-01-01T07:02:00Z") == [("late", "2026-01-01T07:02:00Z")]


def test_the_tick_is_an_event_in_the_log(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "twolane")
    bench.tick(bench.handler(bench.app({"digest": DAILY})), "2026-01-01T07:00:00Z")
    [line] = [each.twolane for each in caplog.records if hasattr(each, "twolane")]  # type: ignore[attr-defined]
    assert line.pop("eventId")
    assert line == {
        "event": "tick",
        "time": "2026-01-01T07:00:00Z",
        "published": 1,
        "entries": ["digest"],
    }


def test_state_survives_the_execution_environment(bench: Any) -> None:
    store: MemoryStore = bench.store
    bench.tick(bench.handler(bench.app({"minutely": MINUTELY})), "2026-01-01T07:00:00Z")
    [key] = store._items
    assert key == "twolane:tick:shop"
    fresh = bench.handler(bench.app({"minutely": MINUTELY}))
    assert bench.tick(fresh, "2026-01-01T07:01:00Z") == [("minutely", "2026-01-01T07:01:00Z")]


def _unreachable(*args: Any, **kwargs: Any) -> None:
    raise ConnectionRefusedError("no broker")


def _killed(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt
