from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import TemplateError
from twolane_local.template.yaml import read_template

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    path = folder / "template.yaml"
    path.write_text(text)
    return path


def test_short_forms_become_long_ones(tmp_path: Path) -> None:
    source = read_template(
        write(
            tmp_path,
            """
AWSTemplateFormatVersion: 2010-09-09
Resources:
  A:
    Type: T
    Properties:
      Ref: !Ref B
      Att: !GetAtt B.Arn.More
      Sub: !Sub ["${x}", {x: !Ref C}]
      If: !If [Cond, 1, !Ref "AWS::NoValue"]
      Both: !And [!Condition Cond, !Equals [a, b]]
""",
        )
    )
    assert source.content["AWSTemplateFormatVersion"] == "2010-09-09"
    assert source.content["Resources"]["A"]["Properties"] == {
        "Ref": {"Ref": "B"},
        "Att": {"Fn::GetAtt": ["B", "Arn.More"]},
        "Sub": {"Fn::Sub": ["${x}", {"x": {"Ref": "C"}}]},
        "If": {"Fn::If": ["Cond", 1, {"Ref": "AWS::NoValue"}]},
        "Both": {"Fn::And": [{"Condition": "Cond"}, {"Fn::Equals": ["a", "b"]}]},
    }


def test_a_resource_is_found_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "Resources:\n  A: {Type: T}\n\n  B: {Type: T}\n")
    source = read_template(path)
    assert source.where("B") == f"{path}:4"
    assert source.where("Generated") == str(path)


def test_a_missing_template_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="--template"):
        read_template(tmp_path / "none.yaml")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"template\.yaml:3 is not valid YAML"):
        read_template(write(tmp_path, "Resources:\n  A: [1,\n  B: }\n"))


@pytest.mark.parametrize("text", ["", "- a", "Resources: []", "{}"])
def test_a_file_without_resources_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TemplateError, match="no Resources"):
        read_template(write(tmp_path, text))
