from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twolane_local.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters: {Size: {Type: Number, Default: 128}}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {Handler: a.b, CodeUri: ., Runtime: python3.13, MemorySize: !Ref Size}
"""


def test_the_expanded_template_is_json_for_linters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    assert main(["template", "--template", str(path), "--parameter", "Size=256"]) == 0
    expanded = json.loads(capsys.readouterr().out)
    assert expanded["Resources"]["F"]["Type"] == "AWS::Lambda::Function"
    assert "Transform" not in expanded


def test_parameters_come_from_samconfig_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace(", Default: 128", ""))
    (tmp_path / "samconfig.toml").write_text(
        '[default.deploy.parameters]\nparameter_overrides = "Size=512"\n'
    )
    assert main(["template", "--template", str(tmp_path / "template.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["Resources"]["F"]["Type"] == "AWS::Lambda::Function"
