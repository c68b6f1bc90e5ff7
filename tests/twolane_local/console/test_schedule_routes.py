from __future__ import annotations

from twolane_local.aws.scheduler.schedule import from_properties
from twolane_local.console.schedule_routes import upcoming

TICK = {
    "ScheduleExpression": "cron(* * * * ? *)",
    "Target": {"Arn": "arn:aws:lambda:us-east-1:123456789012:function:echo"},
}


def schedule(now, **more):
    return from_properties("tick", {**TICK, **more}, now=now)


def test_the_next_times_of_a_schedule():
    now = 1_767_225_630.0
    assert upcoming(schedule(now), now)[:2] == [1_767_225_660.0, 1_767_225_720.0]
    assert upcoming(schedule(now, State="DISABLED"), now) == []
    once = schedule(now, ScheduleExpression="at(2026-01-01T00:01:00)")
    assert upcoming(once, now) == [1_767_225_660.0]


def test_schedules_are_listed_and_fired_by_hand(run):
    async def body(up):
        up.parts.book.add(schedule(up.parts.clock.time()))
        (shown,) = (await up.get("schedules"))["schedules"]
        assert (shown["name"], shown["target"], shown["last"]) == ("tick", "echo", None)
        assert len(shown["next"]) == 5
        assert shown["entries"] == [], "echo is no BeatHandler"
        await up.post("schedules/default%2Ftick/run", 201)
        (fired,) = (await up.get("journal", kind="schedule"))["events"]
        assert (fired["data"]["schedule"], fired["data"]["byHand"]) == ("tick", True)
        await up.post("schedules/tock/run", 404)

    run(body)
