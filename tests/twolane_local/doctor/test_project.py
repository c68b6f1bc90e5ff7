from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks import doctor
from twolane_local.checks.doctor import check_template

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.model import Stack

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
def stack(path: Path) -> Stack:
    stack, results = check_template(path, {})
    assert stack is not None
    assert results[0].what == f"{path}: 2 functions, 3 queues"
    return stack


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    stack, (finding,) = check_template(tmp_path / "none.yaml", {})
    assert stack is None
    assert finding.level == "error"
    assert "none.yaml cannot be read" in finding.what


def test_a_queue_that_nobody_reads(stack: Stack) -> None:
    (finding,) = doctor.check_queues(stack)
    assert finding.level == "warning"
    assert "local-Lonely" in finding.what


def test_each_handler_is_imported_as_a_function_would(stack: Stack) -> None:
    good, bad = doctor.check_handlers(stack.functions)
    assert (good.level, bad.level) == ("ok", "error")
    assert "No module named 'nothing_there'" in bad.what


def test_a_handler_that_never_comes_back_is_said(
    stack: Stack, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_IMPORT_TIMEOUT_S", 0.5)
    (path.parent / "src" / "good.py").write_text("import time; time.sleep(60)\n")
    good, _ = doctor.check_handlers(stack.functions)
    assert good.level == "error"
    assert "timed out" in good.what


def test_code_without_requirements(stack: Stack, path: Path) -> None:
    (finding,) = doctor.check_requirements(stack.functions)
    assert finding.level == "warning"
    (path.parent / "src" / "requirements.txt").touch()
    assert [each.level for each in doctor.check_requirements(stack.functions)] == ["ok"]


def test_rules_that_do_not_hold_are_counted(path: Path) -> None:
    (finding,) = doctor.check_rules(path, {})
    assert finding.level in {"warning", "error"}
    assert "TL" in finding.what
