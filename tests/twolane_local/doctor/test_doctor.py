"""`twolane_local.checks.doctor` as a whole, on a project of which nothing is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.doctor import LEVELS, CheckResult, examine, ok

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_without_a_template_it_still_looks_at_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = list(examine(tmp_path / "template.yaml", {}, ports=[0], variables={}))
    checks = [finding.check for finding in found]
    assert checks[0] == "python"
    assert checks[-1] == "template"
    assert found[-1].level == "error"
    assert {finding.level for finding in found} <= set(LEVELS)


def test_findings_as_json_leave_out_what_is_not_there() -> None:
    assert ok("redis", "there").as_dict() == {"check": "redis", "level": "ok", "what": "there"}
    assert CheckResult("redis", "note", "none", "install it").as_dict()["do"] == "install it"


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {Handler: good.handler, CodeUri: ., Runtime: python3.13}
  Native:
    Type: AWS::Serverless::Function
    Properties: {Handler: bootstrap, CodeUri: ., Runtime: provided.al2023}
"""


def test_only_what_is_python_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (tmp_path / "good.py").write_text("handler = print\n")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    found = list(examine(tmp_path / "template.yaml", {}, ports=[0], variables={}))
    assert [each.what for each in found if each.check == "handlers"] == ["F: good.handler imports"]
    assert not [each for each in found if each.check != "packages" and each.level == "error"]
