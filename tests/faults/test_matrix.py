"""Each row of the fault matrix in virtual time: it happens, and what is promised stays true."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.faults.injection import CATALOGUE
from twolane_local.testing.simulation.play import Armed, Schedule, play

sys.path.insert(0, str(Path(__file__).parent))
from matrix import MATRIX, Row

if TYPE_CHECKING:
    from twolane_local.testing.simulation.invariants import History
    from twolane_local.testing.simulation.simulator import Application

# Celery warns of what its tracer could not store; Redis's Python client of a command of Celery's.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.id)
def test_row(application: Application, row: Row) -> None:
    schedule = Schedule(7, row.steps, (Armed(0.0, row.fault),), length_s=2400.0)
    outcome = play(application, schedule)
    assert outcome.fired[row.fault.name] >= 1, "the fault never happened"
    assert not outcome.violations, [str(each) for each in outcome.violations]
    told = outcome.history.of("fault.injected")
    assert {fact.data["name"] for fact in told} == {row.fault.name}
    if row.steps:
        assert ended(outcome.history) == (row.state, row.effects, row.dead)


def ended(history: History) -> tuple[str | None, int, int]:
    """The last state of the first task, the mails that went out, the dead letters."""
    asked = history.of("enqueue.acknowledged")
    states = [
        fact.data["status"]
        for fact in history.of("result.changed")
        if asked and fact.task == asked[0].task
    ]
    mails = [fact for fact in history.of("effect.committed") if "reader@" not in fact.data["what"]]
    return states[-1] if states else None, len(mails), len(history.of("dead.letter"))


def test_the_matrix_is_whole() -> None:
    assert len(MATRIX) >= 35
    assert {row.fault.name for row in MATRIX} == set(CATALOGUE)
    assert len({row.id for row in MATRIX}) == len(MATRIX)
