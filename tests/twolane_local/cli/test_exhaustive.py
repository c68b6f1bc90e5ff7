"""``twolane simulate --exhaustive``: exit codes, and what it prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.cli import main
from twolane_local.testing.simulation.campaign import Report, Row

if TYPE_CHECKING:
    from pathlib import Path

NAME = "chord/redis/12:killed"


def ran(monkeypatch: pytest.MonkeyPatch, *rows: Row, missed: tuple[str, ...] = ()) -> list[Any]:
    asked: list[Any] = []

    def explore(primitives: Any, stores: Any, *, jobs: int, limits: Any, progress: Any) -> Report:
        asked.append((primitives, stores, jobs, limits))
        report = Report([*rows], 1.5, missed=[*missed])
        progress(report)
        return report

    monkeypatch.setattr("twolane_local.testing.simulation.campaign.explore", explore)
    return asked


def test_all_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ran(monkeypatch, Row("chord", "redis", 154, 321, 321, 9000, 70))
    command = ["simulate", "--exhaustive", "--primitive", "chord", "--store", "redis"]
    assert main([*command, "--jobs", "2", "--minutes", "3"]) == 0
    ((primitives, stores, jobs, limits),) = asked
    assert (primitives, stores, jobs) == (["chord"], ["redis"], 2)
    assert (limits.seconds, limits.runs) == (180.0, None)
    out, err = capsys.readouterr()
    assert "392 schedules in 1.5 s; 8930 were left out" in out
    assert "all invariants hold: L E M B V S C D" in out
    assert "392 schedules" in err


def test_a_violation_is_told_with_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("chord", "redis", 1, 1, 1, violations={NAME: ["D body happened again"]})
    ran(monkeypatch, row)
    assert main(["simulate", "--exhaustive"]) == 1
    out = capsys.readouterr().out
    assert f"! {NAME}: D body happened again" in out
    assert f"twolane simulate --exhaustive --replay {NAME}" in out
    assert main(["simulate", "--exhaustive", "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["rows"]
    assert told["violations"] == row.violations


def test_a_run_that_does_not_repeat_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(monkeypatch, Row("chord", "redis"), missed=(NAME,))
    assert main(["simulate", "--exhaustive"]) == 1
    assert "did not run as before" in capsys.readouterr().out


def test_the_table_goes_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran(monkeypatch, Row("chord", "redis", 154, 321, 321, 9000, 70))
    assert main(["simulate", "--exhaustive", "--table"]) == 2
    assert "has no place for the table" in capsys.readouterr().err
    page = tmp_path / "docs" / "faults.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- exhaustive -->\nold\n<!-- end of exhaustive -->\nafter\n")
    for _ in range(2):
        assert main(["simulate", "--exhaustive", "--table"]) == 0
    text = page.read_text()
    assert "| chord | redis | 154 | 321 | 9,000 | 392 | 0 |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text


@pytest.mark.parametrize(
    ("flag", "told"),
    [("--primitive", "there is no primitive tasc"), ("--store", "there is no store tasc")],
)
def test_what_there_is_not(capsys: pytest.CaptureFixture[str], flag: str, told: str) -> None:
    assert main(["simulate", "--exhaustive", flag, "tasc"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_schedule_again(capsys: pytest.CaptureFixture[str]) -> None:
    replay = ["simulate", "--exhaustive", "--replay"]
    assert main([*replay, "task/redis/3:twice"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("task/redis/3:twice\n")
    assert "fault.injected" in out
    assert "strike=twice" in out
    assert main([*replay, "task/redis/9999:killed"]) == 1
    assert "never happened" in capsys.readouterr().out
    assert main([*replay, "task/redis/none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["points"][0]["point"] == "invoke"
