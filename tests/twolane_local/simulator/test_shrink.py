"""What is left out of a schedule. ``test_planted.py`` shrinks a real finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.faults.injection import Fault
from twolane_local.simulator import shrink as shrinking
from twolane_local.simulator.facts import History
from twolane_local.simulator.invariants import Violation
from twolane_local.simulator.play import Outcome
from twolane_local.simulator.schedule import Armed, Schedule, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.application import Application

WHOLE = Schedule(
    5,
    tuple(
        Step(float(number), action) for number, action in enumerate(("notify", "defer", "import"))
    ),
    tuple(Armed(0.0, Fault(name)) for name in ("send.failed", "store.down", "tick.late")),
)


def names(schedule: Schedule) -> tuple[set[str], set[str]]:
    return {each.action for each in schedule.steps}, {each.fault.name for each in schedule.faults}


@pytest.fixture
def shrunk(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[set[str], set[str]], str]], Schedule]:
    """``shrunk(broken)``: ``broken(steps, faults)`` are the invariants that a schedule breaks."""

    def shrink(broken: Callable[[set[str], set[str]], str]) -> Schedule:
        def play(_: Any, schedule: Schedule) -> Outcome:
            found = tuple(Violation(each, "t", "") for each in broken(*names(schedule)))
            return Outcome(schedule, found, History(), "", {})

        monkeypatch.setattr(shrinking, "play", play)
        return shrinking.shrink(application, play(application, WHOLE)).schedule

    return shrink


def test_only_what_is_needed_stays(shrunk: Any) -> None:
    def broken(steps: set[str], faults: set[str]) -> str:
        return "E" if "defer" in steps and {"store.down", "tick.late"} <= faults else ""

    left = shrunk(broken)
    assert names(left) == ({"defer"}, {"store.down", "tick.late"})
    assert (left.seed, left.length_s) == (WHOLE.seed, WHOLE.length_s)


def test_another_invariant_s_violation_is_another_finding(shrunk: Any) -> None:
    def broken(_: set[str], faults: set[str]) -> str:
        return "E" if "store.down" in faults else "L"

    assert "store.down" in names(shrunk(broken))[1]


def test_what_breaks_by_itself_shrinks_to_nothing(shrunk: Any) -> None:
    assert names(shrunk(lambda *_: "V")) == (set(), set())


def test_what_cannot_be_made_smaller_stays(shrunk: Any) -> None:
    left = shrunk(lambda steps, faults: "M" if len(steps) == 3 and len(faults) == 3 else "")
    assert left == WHOLE
