"""``twolane simulate``: exit codes and what it prints. tests/faults runs it for real."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.cli import main
from twolane_local.testing.simulation.play import Tally

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "handlers" / "app").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(monkeypatch: pytest.MonkeyPatch, tally: Tally) -> list[tuple[int, int, int]]:
    asked: list[tuple[int, int, int]] = []

    def run_many(first: int, runs: int, jobs: int, progress: Any, root: Path) -> Tally:
        asked.append((first, runs, jobs))
        progress(tally)
        return tally

    monkeypatch.setattr("twolane_local.testing.simulation.play.run_many", run_many)
    return asked


def test_all_hold(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ran(monkeypatch, Tally(runs=30, seconds=1.5, effects=4, tasks=9))
    assert main(["simulate", "--runs", "30", "--first", "5", "--jobs", "2"]) == 0
    assert asked == [(5, 30, 2)]
    out, err = capsys.readouterr()
    assert "30 schedules, 9 tasks, 4 effects" in out
    assert "all invariants hold" in out
    assert "30/30 schedules" in err


def test_a_violation_is_told_with_how_to_see_it_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(runs=1, violations={17: ["M t1: SUCCESS was followed by STARTED"]})
    ran(monkeypatch, tally)
    assert main(["simulate", "--runs", "1"]) == 1
    out = capsys.readouterr().out
    assert "! seed 17: M t1: SUCCESS was followed by STARTED" in out
    assert "twolane simulate --seed 17" in out
    assert main(["simulate", "--runs", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["violations"] == {"17": tally.violations[17]}


def test_without_an_application_it_says_where_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate"]) == 2
    assert "run it where template.yaml and handlers/app are" in capsys.readouterr().err
