"""Every placement of faults, on both stores, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twolane_local.testing.simulation.campaign import BEGIN, END
from twolane_local.testing.simulation.placements import STORES
from twolane_local.testing.simulation.primitives import PRIMITIVES

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str, code: int = 0, hash_seed: int = 0) -> dict[str, Any]:
    """In a process of its own, as the command does it: what a run changes stays there."""
    command = [sys.executable, "-W", "ignore", "-m", "twolane_local.cli", "simulate"]
    done = subprocess.run(
        [*command, "--exhaustive", "--json", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed or "random")},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_some_hundred_placements() -> None:
    told = simulate("--runs", "330", "--jobs", "2")
    assert told["runs"] == 330
    assert told["missed"] == []
    assert {name: each for row in told["rows"] for name, each in row["violations"].items()} == {}
    assert [(row["primitive"], row["store"]) for row in told["rows"]] == [
        (primitive, store) for primitive in PRIMITIVES for store in STORES
    ]
    assert all(row["singlesRun"] for row in told["rows"])


@pytest.mark.slow
def test_a_schedule_is_the_same_run_in_another_process() -> None:
    placement = "chord/dynamodb/61:paused"
    first, again = (simulate("--replay", placement, hash_seed=seed) for seed in (1, 3))
    assert first == again
    assert (first["violations"], first["missed"]) == ([], 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_pair_of_a_task_and_a_selection_of_the_rest() -> None:
    told = simulate("--primitive", "task", "--store", "redis", "--jobs", "2")
    assert told["leftOut"] == 0
    more = simulate("--first", "7", "--runs", "1500", "--jobs", "2")
    for each in (told, more):
        assert each["missed"] == []
        assert {name: why for row in each["rows"] for name, why in row["violations"].items()} == {}


def test_the_page_has_a_row_for_each_primitive_on_each_store() -> None:
    page = (ROOT / "docs" / "faults.md").read_text()
    table = page.partition(BEGIN)[2].partition(END)[0]
    for primitive in PRIMITIVES:
        for store in STORES:
            assert f"| {primitive} | {store} |" in table, "run `make exhaustive`"
