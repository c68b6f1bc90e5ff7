"""Many runs are counted together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from twolane_local.simulator.many import Tally, run_many, run_seeds

ROOT = Path(__file__).parents[3] / "handlers"
pytestmark = pytest.mark.filterwarnings("ignore")


def test_tallies_add_up() -> None:
    tally = Tally(runs=2, faults=Counter(a=1), violations={1: ["x"]}, effects=3, tasks=4)
    tally.add(Tally(runs=5, faults=Counter(a=2, b=1), violations={9: ["y"]}, effects=1, tasks=1))
    told = tally.as_dict()
    assert (told["runs"], told["effects"], told["tasks"]) == (7, 4, 5)
    assert told["faults"] == {"a": 3, "b": 1}
    assert told["violations"] == {"1": ["x"], "9": ["y"]}


def test_seeds_are_run_and_progress_is_told() -> None:
    seen: list[int] = []
    tally = run_many(0, 25, 1, lambda tally: seen.append(tally.runs), ROOT)
    assert seen == [20, 25]
    assert tally.violations == {}
    assert tally.cpu_seconds > 0
    assert tally.faults == run_seeds(range(25), ROOT).faults
