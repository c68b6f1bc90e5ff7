from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from twolane_local.checks import doctor as examinations
from twolane_local.checks.doctor import CheckResult, ok
from twolane_local.cli import doctor, exits
from twolane_local.cli.parser import parser

if TYPE_CHECKING:
    from pathlib import Path

GOOD = [ok("python", "Python 3.13"), CheckResult("redis", "note", "none", "install it")]
BAD = [*GOOD, CheckResult("handlers", "error", "does not\nimport\x1b", "correct it")]


def run(monkeypatch: pytest.MonkeyPatch, found: list[CheckResult], *arguments: str) -> int:
    monkeypatch.setattr(examinations, "examine", lambda *args, **more: iter(found))
    return doctor.run(parser().parse_args(["doctor", *arguments]))


@pytest.mark.parametrize(("found", "code"), [(GOOD, exits.DONE), (BAD, exits.NO)])
def test_only_an_error_is_no(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: list[CheckResult],
    code: int,
) -> None:
    assert run(monkeypatch, found, "--json") == code
    assert json.loads(capsys.readouterr().out) == [each.as_dict() for each in found]


def test_each_finding_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, BAD)
    assert capsys.readouterr().out.splitlines() == [
        "✓ python    Python 3.13",
        "· redis     none",
        "            → install it",
        "! handlers  does not import\\x1b",
        "            → correct it",
    ]


def test_a_project_without_a_template_is_examined_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = parser().parse_args(["doctor", "--port", "0", "--json"])
    assert doctor.run(options) == exits.NO
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["template"]["level"] == "error"
    assert "--template" in found["template"]["what"]
