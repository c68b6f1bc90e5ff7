"""Exit codes and forms of `twolane lint`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from twolane_local.cli import main

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """\
Parameters:
  Receives: {Type: Number, Default: 5}
Resources:
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 60
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: !Ref Receives}
  Dead: {Type: AWS::SQS::Queue, Properties: {MessageRetentionPeriod: 1209600}}
  Work:
    Type: AWS::Lambda::Function
    Properties: {Handler: work.handler, Runtime: python3.13, Timeout: 10}
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Work
      EventSourceArn: !GetAtt Jobs.Arn
      FunctionResponseTypes: [ReportBatchItemFailures]
"""


@pytest.fixture(autouse=True)
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return path


def test_nothing_found_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint"]) == 0
    assert capsys.readouterr().out == "nothing found\n"


def test_a_warning_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["lint", "--parameter", "Receives=2"]
    assert main(few) == 1
    assert capsys.readouterr().out.startswith("template.yaml:8: warning TL102 receive-count: Jobs")
    assert main([*few, "--fail-on", "error"]) == 0
    assert main([*few, "--ignore", "TL102"]) == 0


def test_a_note_is_0_unless_asked_for(template: Path) -> None:
    hidden = "VisibilityTimeout: 10\n      FifoQueue: true"
    template.write_text(TEMPLATE.replace("VisibilityTimeout: 60", hidden))
    assert main(["lint"]) == 0
    assert main(["lint", "--fail-on", "note"]) == 1


def test_samconfig_gives_values_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(
        '[default.deploy.parameters]\nparameter_overrides = "Receives=2"\n'
    )
    assert main(["lint"]) == 1
    assert main(["lint", "--parameter", "Receives=7"]) == 0


def test_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(TEMPLATE.replace("Default: 5", "Default: 1"))
    assert main(["lint", "template.yaml", "other.yaml", "--json"]) == 1
    assert [one["path"] for one in json.loads(capsys.readouterr().out)] == ["other.yaml"]


def test_sarif(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--sarif"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "2.1.0"


def test_a_journal_is_looked_at(tmp_path: Path) -> None:
    event = {"at": 1, "kind": "inline.succeeded", "function": "Work",
             "data": {"taskName": "mail", "durationMs": 900}}  # fmt: skip
    (tmp_path / "journal.jsonl").write_text(json.dumps(event))
    assert main(["lint", "--journal", "journal.jsonl"]) == 0
    assert main(["lint", "--journal", "journal.jsonl", "--inline-budget", "0.5"]) == 1


def test_what_cannot_be_read_is_2(template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template.unlink()
    assert main(["lint"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_the_rules_are_listed_without_a_template(
    template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template.unlink()
    assert main(["lint", "--list"]) == 0
    assert "TL101" in capsys.readouterr().out
