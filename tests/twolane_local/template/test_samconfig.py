from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.errors import TemplateError
from twolane_local.template import parameters

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    assert parameters.read_samconfig(tmp_path / "template.yaml") == parameters.SamConfig()


def test_what_is_said_for_local_use_beats_a_deployment(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text(
        """
version = 0.1
[default.global.parameters]
stack_name = "shop"
[default.deploy.parameters]
parameter_overrides = "Stage=prod Size=\\"a b\\""
[default.local_start_api.parameters]
parameter_overrides = ["Stage=dev"]
[other.deploy.parameters]
stack_name = "other"
"""
    )
    config = parameters.read_samconfig(tmp_path / "template.yaml")
    assert (config.stack_name, config.parameters) == ("shop", {"Stage": "dev", "Size": "a b"})
    assert parameters.read_samconfig(tmp_path / "template.yaml", "other").stack_name == "other"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        ("A=1 B=", {"A": "1", "B": ""}),
        (["A=1", "B=x y"], {"A": "1", "B": "x"}),
        (["A='x y'"], {"A": "x y"}),
        ("ParameterKey=A,ParameterValue=1=2", {"A": "1=2"}),
    ],
)
def test_overrides(value: Any, expected: dict[str, str]) -> None:
    found = parameters.parse_overrides(value)
    assert {name: found[name] for name in expected} == expected


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "samconfig.toml").write_text("[default")
    with pytest.raises(TemplateError, match=r"samconfig\.toml cannot be read"):
        parameters.read_samconfig(tmp_path / "template.yaml")
