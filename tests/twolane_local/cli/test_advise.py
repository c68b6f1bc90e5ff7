"""`twolane advise` from a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from twolane_local.cli import main
from twolane_local.remote.emulator import Running, announced, folder

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """\
Resources:
  Api:
    Type: AWS::Lambda::Function
    Properties: {Handler: a.b, Runtime: python3.13, MemorySize: 2048}
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    ran = {"at": 1, "kind": "inline.succeeded", "function": "Api",
           "data": {"taskName": "mail", "durationMs": 1000}}  # fmt: skip
    (tmp_path / "journal.jsonl").write_text("\n".join([json.dumps(ran)] * 20))


def test_advice_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--journal", "journal.jsonl"]) == 0
    assert capsys.readouterr().out.startswith("mail  (inline)  →  stay\n")
    assert main(["advise", "--journal", "journal.jsonl", "--inline-budget", "0.5"]) == 0
    assert capsys.readouterr().out.startswith("mail  (inline)  →  DEFER\n")


def test_the_rate_and_the_templates_memory_make_the_price(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rate = ["--requests-per-month", "3000000"]
    assert main(["advise", "--journal", "journal.jsonl", "--json", *rate]) == 0
    (work,) = json.loads(capsys.readouterr().out)["work"]
    assert work["monthly"]["inline"] == pytest.approx(3e6 * 2 * 0.0000166667)


def test_without_a_file_an_emulator_must_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise"]) == 2
    assert "start one with `twolane up`" in capsys.readouterr().err


def test_of_two_emulators_that_of_this_project_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "template.yaml").rename(tmp_path / "template.yml")
    built = str(tmp_path / ".aws-sam" / "build" / "template.yaml")
    ours = Running(os.getpid(), "http://127.0.0.1:9", "t", "local", built, 1.0)
    other = Running(os.getppid(), "http://127.0.0.1:9", "t", "local", "/other.yaml", 2.0)
    with announced(ours, folder()), announced(other, folder()):
        assert main(["advise"]) == 2
        assert "2 emulators run" not in capsys.readouterr().err  # it does not answer
        assert main(["advise", "--template", "template.yml"]) == 2
        assert "2 emulators run" in capsys.readouterr().err
