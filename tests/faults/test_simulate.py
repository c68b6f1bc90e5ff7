"""Random schedules of the demonstration application: no invariant is ever broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str, code: int = 0) -> dict[str, Any]:
    """In a process of its own, as the command does it: what a run changes stays there."""
    command = [sys.executable, "-W", "ignore", "-m", "twolane_local.cli", "simulate", "--json"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_two_hundred_schedules() -> None:
    told = simulate("--runs", "200", "--jobs", "2")
    assert told["violations"] == {}
    assert told["runs"] == 200
    assert len([name for name, count in told["faults"].items() if count]) > 30
    assert told["effects"] > 200


@pytest.mark.slow
def test_a_seed_is_the_same_run_in_another_process() -> None:
    first, again = (simulate("--seed", "75") for _ in range(2))
    assert first == again
    assert first["violations"] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_schedules() -> None:
    told = simulate("--first", "100000", "--runs", "2000", "--jobs", "4")
    assert told["violations"] == {}
