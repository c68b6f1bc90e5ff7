"""Schedules are drawn from a seed, written as JSON, and made smaller."""

from __future__ import annotations

import json

from twolane_local.faults.injection import CATALOGUE
from twolane_local.simulator.schedule import draw, schedule_of


def test_a_seed_gives_the_same_schedule() -> None:
    assert draw(7) == draw(7)
    assert len({json.dumps(draw(seed).as_dict()) for seed in range(100)}) == 100


def test_a_schedule_is_json_and_back() -> None:
    for seed in range(50):
        one = draw(seed)
        assert schedule_of(json.loads(json.dumps(one.as_dict()))) == one


def test_every_fault_and_action_is_drawn() -> None:
    many = [draw(seed) for seed in range(1500)]
    assert {each.fault.name for one in many for each in one.faults} == set(CATALOGUE)
    actions = {step.action for one in many for step in one.steps}
    assert actions == {"notify", "defer", "campaign", "import", "revoke"}


def test_one_step_or_fault_less() -> None:
    one = next(draw(seed) for seed in range(100) if len(draw(seed).faults) > 1)
    assert one.without_fault(0).faults == one.faults[1:]
    assert one.without_step(0).steps == one.steps[1:]
