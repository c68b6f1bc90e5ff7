from datetime import timedelta

import pytest


@pytest.mark.twolane(start="2026-01-02T01:58:30")  # 02:58:30 in Berlin
def test_the_report_of_the_night_counts_all_branches(twolane):
    assert twolane.tasks.named("total") == []

    twolane.clock.advance(timedelta(minutes=3))

    assert twolane.tasks["tasks.report"].state == "SUCCESS"
    (total,) = twolane.tasks.named("total")
    assert twolane.client.get(f"/tasks/{total.id}").json()["result"] == 16


def test_a_branch_that_is_counted_twice_counts_once(twolane):
    twolane.faults.inject("queue.duplicate-delivery", count=3)
    twolane.client.post("/reports")

    twolane.deferred.run_until_idle()

    (total,) = twolane.tasks.named("total")
    assert twolane.client.get(f"/tasks/{total.id}").json()["result"] == 16


def test_a_reminder_in_an_hour_comes_in_an_hour(twolane):
    at = twolane.clock.now + timedelta(hours=1)
    reminder = {"text": "water the plants", "at": at.isoformat()}
    identity = twolane.client.post("/reminders", json=reminder).json()["id"]

    # The queue keeps it for 15 minutes, SQS's longest delay; then it is a schedule.
    assert len(twolane.queue("Tasks")) == 1
    twolane.clock.advance(timedelta(minutes=16))
    assert len(twolane.queue("Tasks")) == 0

    twolane.clock.at(at - timedelta(minutes=1))
    assert not twolane.tasks[identity].done

    twolane.clock.advance(timedelta(minutes=2))
    assert twolane.tasks[identity].state == "SUCCESS"
