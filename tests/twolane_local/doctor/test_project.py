from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks import doctor
from twolane_local.checks.doctor import Project, reads

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {CodeUri: src/, Runtime: python3.13}
Resources:
  Good:
    Type: AWS::Serverless::Function
    Properties:
      Handler: good.handler
      Events: {Q: {Type: SQS, Properties: {Queue: !GetAtt Tasks.Arn}}}
  Bad:
    Type: AWS::Serverless::Function
    Properties: {Handler: bad.handler}
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
  Dead: {Type: AWS::SQS::Queue}
  Lonely: {Type: AWS::SQS::Queue}
  Nobody: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 1}}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "src"
    source.mkdir()
    (source / "good.py").write_text("import os\nhandler = os.environ['AWS_LAMBDA_FUNCTION_NAME']\n")
    (source / "bad.py").write_text("import nothing_there\n")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path / "template.yaml"


@pytest.fixture
def found(path: Path) -> Project:
    read, said = reads(path, {})
    assert read is not None
    assert said[0].what == f"{path}: 2 functions, 3 queues"
    return read


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    read, (finding,) = reads(tmp_path / "none.yaml", {})
    assert read is None
    assert finding.level == "error"
    assert "none.yaml cannot be read" in finding.what


def test_a_queue_that_nobody_reads(found: Project) -> None:
    (finding,) = doctor.queues(found)
    assert finding.level == "warning"
    assert "local-Lonely" in finding.what


def test_each_handler_is_imported_as_a_function_would(found: Project) -> None:
    good, bad = doctor.handlers(found.stack.functions)
    assert (good.level, bad.level) == ("ok", "error")
    assert "No module named 'nothing_there'" in bad.what


def test_a_handler_that_never_comes_back_is_said(
    found: Project, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_IMPORT_TIMEOUT_S", 0.5)
    (path.parent / "src" / "good.py").write_text("import time; time.sleep(60)\n")
    good, _ = doctor.handlers(found.stack.functions)
    assert good.level == "error"
    assert "timed out" in good.what


def test_code_without_requirements(found: Project, path: Path) -> None:
    (finding,) = doctor.requirements(found.stack.functions)
    assert finding.level == "warning"
    (path.parent / "src" / "requirements.txt").touch()
    assert [each.level for each in doctor.requirements(found.stack.functions)] == ["ok"]


def test_rules_that_do_not_hold_are_counted(path: Path) -> None:
    (finding,) = doctor.rules(path, {})
    assert finding.level in {"warning", "error"}
    assert "TL" in finding.what
