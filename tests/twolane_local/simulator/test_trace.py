"""A run for people."""

from __future__ import annotations

from twolane_local.faults.injection import Fault
from twolane_local.simulator.facts import Fact, History
from twolane_local.simulator.invariants import Violation
from twolane_local.simulator.play import Outcome
from twolane_local.simulator.schedule import Armed, Schedule, Step
from twolane_local.simulator.trace import lines

SCHEDULE = Schedule(
    7,
    (Step(1.0, "defer", {"email": "anna@example.com"}),),
    (Armed(2.0, Fault("send.failed", count=3)),),
)
HISTORY = History(
    [
        Fact(1001.0, "body.taken", task="guilty-task", message="m1", data={"body": "secret"}),
        Fact(1002.0, "fault.injected", data={"name": "send.failed"}),
        Fact(1003.0, "result.changed", task="innocent", data={"status": "SUCCESS"}),
    ]
)


def outcome(*violations: Violation) -> Outcome:
    return Outcome(SCHEDULE, violations, HISTORY, "abc", {"send.failed": 1})


def test_what_went_wrong_is_told_without_the_rest() -> None:
    told = "\n".join(lines(outcome(Violation("L", "guilty-task", "it is gone")), 1000.0))
    assert "seed 7" in told
    assert "1.00 s  defer email=anna@example.com" in told
    assert "! send.failed count=3" in told
    assert "body.taken" in told
    assert "fault.injected" in told
    assert "innocent" not in told
    assert "secret" not in told
    assert "! L guilty-task: it is gone" in told
    assert told.endswith("digest abc")


def test_everything_is_told_on_demand() -> None:
    told = "\n".join(lines(outcome(), 1000.0, everything=True))
    assert "result.changed" in told
    assert "all invariants hold" in told
