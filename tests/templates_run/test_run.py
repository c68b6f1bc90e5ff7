"""The table of what starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_what_starts_and_why_the_rest_does_not(tmp_path: Path) -> None:
    """A parameter gets a value, a circle a reason, and a file that is no template no line."""
    (tmp_path / "good.yaml").write_text(
        "Parameters: {Word: {Type: String, AllowedValues: [yes please]}}\n"
        "Resources:\n  Queue: {Type: AWS::SQS::Queue}\n  Wall: {Type: AWS::EC2::SecurityGroup}\n"
    )
    (tmp_path / "circle.json").write_text(
        json.dumps(
            {
                "Resources": {
                    "A": {"Type": "AWS::SQS::Queue", "DependsOn": "B"},
                    "B": {"Type": "AWS::SQS::Queue", "DependsOn": "A"},
                }
            }
        )
    )
    (tmp_path / "event.json").write_text('{"Type": "AWS::SQS::Queue", "text": "Resources"}')
    ended = subprocess.run(
        [sys.executable, str(HERE / "run.py"), str(tmp_path), "--json"],
        check=False, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    circle, good = map(json.loads, ended.stdout.splitlines())
    assert (good["template"], good["starts"], good["made_up"]) == ("good.yaml", True, ["Word"])
    assert "Wall is not emulated" in good["notes"][0]
    assert not circle["starts"]
    assert "A → B → A is circular" in circle["reason"]
    assert ended.returncode == 1
