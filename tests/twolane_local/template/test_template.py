from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from twolane_local import template
from twolane_local.errors import TemplateError

if TYPE_CHECKING:
    from pathlib import Path

SAM = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}
  Names: {Type: CommaDelimitedList, Default: "a, b"}
Conditions:
  Prod: !Equals [!Ref Stage, prod]
Globals:
  Function: {CodeUri: src/, Runtime: python3.13, Timeout: 7}
Resources:
  Api: {Type: AWS::Serverless::Function, Properties: {Handler: a.b, Events: {E: {Type: HttpApi}}}}
  Extra: {Type: AWS::SQS::Queue, Condition: Prod}
Outputs:
  Always: {Value: !Ref Api}
  Sometimes: {Value: !Ref Extra, Condition: Prod}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "template.yaml").write_text(SAM)
    return tmp_path / "template.yaml"


def test_sam_is_expanded_with_its_globals(path: Path) -> None:
    loaded = template.load(path, {}, stack_name="s")
    function = loaded.resources["Api"]
    assert function["Type"] == "AWS::Lambda::Function"
    assert function["Properties"]["Timeout"] == 7
    assert function["Properties"]["Code"] == {"S3Bucket": template.LOCAL_BUCKET, "S3Key": "src/"}
    assert loaded.resources["ServerlessHttpApi"]["Type"] == "AWS::ApiGatewayV2::Api"
    assert loaded.parameters["Names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("code", "key"), [("", "."), (", CodeUri: here/", "here/"), (", InlineCode: 'x = 1'", None)]
)
def test_code_is_beside_the_template_where_nothing_is_said(
    tmp_path: Path, code: str, key: str | None
) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources: {F: {Type: AWS::Serverless::Function, "
        f"Properties: {{Handler: a.b, Runtime: python3.13{code}}}}}}}\n"
    )
    code = template.load(path, {}, stack_name="s").resources["F"]["Properties"]["Code"]
    assert code.get("S3Key") == key


def test_conditions_decide_on_resources_and_outputs(path: Path) -> None:
    without = template.load(path, {}, stack_name="s")
    assert "Extra" not in without.resources
    assert set(without.outputs) == {"Always"}
    with_extra = template.load(path, {"Stage": "prod"}, stack_name="s")
    assert "Extra" in with_extra.resources
    assert set(with_extra.outputs) == {"Always", "Sometimes"}


def test_a_second_load_comes_from_the_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = template.load(path, {}, stack_name="s")
    monkeypatch.setattr(template, "_expand", None)  # would raise if it were called
    assert template.load(path, {}, stack_name="s").resources == first.resources


def test_plain_cloudformation_passes_through(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("Resources:\n  Q: {Type: AWS::SQS::Queue}\n")
    assert template.load(path, {}, stack_name="s").resources == {"Q": {"Type": "AWS::SQS::Queue"}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"Nope": "1"}, "no parameter 'Nope'; it has: Names, Stage"),
        ({"Stage": "test"}, "not one of dev, prod"),
    ],
)
def test_wrong_parameters(path: Path, given: dict[str, str], words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        template.load(path, given, stack_name="s")


def test_a_parameter_without_a_value(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("Parameters: {Needed: {Type: String}}\nResources: {}\n")
    with pytest.raises(TemplateError, match="--parameter Needed=VALUE"):
        template.load(path, {}, stack_name="s")


def test_what_sam_refuses(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "Transform: AWS::Serverless-2016-10-31\n"
        "Resources: {F: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.13}}}\n"
    )
    with pytest.raises(TemplateError, match="SAM refuses the template"):
        template.load(path, {}, stack_name="s")


def test_a_value_of_each_start_does_not_spoil_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        """
Transform: AWS::Serverless-2016-10-31
Parameters: {Store: {Type: String, Default: ""}}
Conditions: {HasStore: !Not [!Equals [!Ref Store, ""]]}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      {Handler: a.b, Runtime: python3.13, CodeUri: ., Description: !Ref Store,
       Environment: {Variables: {S: !If [HasStore, !Sub "${Store}/x", none]}}}
"""
    )
    template.load(path, {}, stack_name="s", volatile={"Store": "redis://a:1"})
    monkeypatch.setattr(template, "_expand", None)  # would raise if it were called
    loaded = template.load(path, {}, stack_name="s", volatile={"Store": "redis://a:2"})
    text = json.dumps(loaded.resources)
    assert "stands-for" not in text
    assert "redis://a:1" not in text
    assert loaded.parameters["Store"] == "redis://a:2"
