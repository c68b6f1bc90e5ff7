"""The smallest schedule that still breaks the same invariant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.simulator.play import play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.simulator.application import Application
    from twolane_local.simulator.play import Outcome
    from twolane_local.simulator.schedule import Schedule


def shrink(application: Application, outcome: Outcome) -> Outcome:
    """Leave out steps and faults, one at a time, for as long as the invariant stays broken."""
    wanted = {each.invariant for each in outcome.violations}
    smaller: Outcome | None = outcome
    while smaller is not None:
        outcome, smaller = smaller, None
        for schedule in _smaller(outcome.schedule):
            tried = play(application, schedule)
            if wanted & {each.invariant for each in tried.violations}:
                smaller = tried
                break
    return outcome


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    for number in range(len(schedule.faults)):
        yield schedule.without_fault(number)
    for number in range(len(schedule.steps)):
        yield schedule.without_step(number)
