"""Every command that reads a template, in a project that has it at another place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from twolane_local.cli import main

PROJECT = Path(__file__).parents[2] / "templates" / "usual_places"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECT, tmp_path / "shop")
    monkeypatch.chdir(tmp_path / "shop")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def test_template(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["template"]) == 0
    assert "Say" in json.loads(capsys.readouterr().out)["Resources"]


def test_lint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--template-only"]) == 0
    Path("infra", "shop.yml").write_text("Resources: {Say: 5}")
    assert main(["lint", "--template-only"]) == 2
    assert "infra/shop.yml:1" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    read = [each for each in found if each["check"] == "template" and each["level"] == "ok"]
    assert [each["what"] for each in read] == ["infra/shop.yml: 1 functions, 0 queues"]


def test_advise(capsys: pytest.CaptureFixture[str]) -> None:
    Path("journal.jsonl").write_text("")
    assert main(["advise", "--journal", "journal.jsonl"]) == 0
    assert "!" not in capsys.readouterr().err
