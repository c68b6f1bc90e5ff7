"""The transform AWS::LanguageExtensions, before SAM's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local import template
from twolane_local.errors import TemplateError
from twolane_local.template.transforms import apply

if TYPE_CHECKING:
    from pathlib import Path

SAM = """
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Parameters:
  Kinds: {Type: CommaDelimitedList, Default: "orders,returns"}
Mappings:
  Sizes: {orders: {memory: 512}}
Resources:
  Fn::ForEach::Kinds:
    - Kind
    - !Ref Kinds
    - Handle${Kind}:
        Type: AWS::Serverless::Function
        Properties:
          CodeUri: src/
          Runtime: python3.12
          Handler: !Sub "${Kind}.handle"
          MemorySize: !FindInMap [Sizes, !Ref Kind, memory, {DefaultValue: 256}]
          Environment:
            Variables:
              QUEUE: !GetAtt [!Sub "Queue${Kind}", Arn]
              COUNT: !Length [a, b, c]
              ALL: {"Fn::ToJsonString": {kind: !Ref Kind, url: !Ref Queueorders}}
      Queue${Kind}: {Type: AWS::SQS::Queue}
Outputs:
  Fn::ForEach::Urls: [Kind, !Ref Kinds, {"Url${Kind}": {Value: !Ref {"Fn::Sub": "Queue${Kind}"}}}]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_loops_are_expanded_before_sam(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(SAM)
    loaded = template.load(path, {}, stack_name="s")
    assert {"Handleorders", "Handlereturns", "Queueorders", "Queuereturns"} < set(loaded.resources)
    properties = loaded.resources["Handlereturns"]["Properties"]
    assert (properties["Handler"], properties["MemorySize"]) == ({"Fn::Sub": "returns.handle"}, 256)
    assert loaded.resources["Handleorders"]["Properties"]["MemorySize"] == 512
    assert properties["Environment"]["Variables"]["QUEUE"] == {
        "Fn::GetAtt": ["Queuereturns", "Arn"]
    }
    assert loaded.outputs == {
        "Urlorders": {"Ref": "Queueorders"},
        "Urlreturns": {"Ref": "Queuereturns"},
    }


def extended(resources: Any, **parameters: Any) -> Any:
    content = {
        "Transform": "AWS::LanguageExtensions",
        "Mappings": {"M": {"a": {"b": 1}}},
        "Resources": resources,
    }
    return apply(content, parameters)["Resources"]


def test_loops_in_loops_and_in_properties() -> None:
    inner = ["B", ["x", "y"], {"${A}${B}": {"Type": "T", "Ref both": "${A}/${B}"}}]
    assert extended({"Fn::ForEach::Outer": ["A", ["1", "2"], {"Fn::ForEach::Inner": inner}]}) == {
        f"{a}{b}": {"Type": "T", "Ref both": f"{a}/{b}"} for a in "12" for b in "xy"
    }
    made = {"Fn::ForEach::Tags": ["K", {"Ref": "Keys"}, {"tag-${K}": {"Ref": "K"}}], "own": 1}
    assert extended({"R": {"Properties": made}}, Keys=["a"]) == {
        "R": {"Properties": {"tag-a": "a", "own": 1}}
    }


def test_an_ampersand_leaves_out_what_an_id_may_not_hold() -> None:
    body = {"Net&{Ip}": {"Type": "T", "Ip": {"Ref": "Ip"}}}
    assert extended({"Fn::ForEach::Ips": ["Ip", ["10.0.0.1"], body]}) == {
        "Net10001": {"Type": "T", "Ip": "10.0.0.1"}
    }


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"Fn::ForEach::L": ["A", "no list", {}]}, r"Fn::ForEach::L takes \[identifier, a list"),
        ({"Fn::ForEach::L": 5}, r"Fn::ForEach::L takes"),
        ({"Fn::ForEach::L": ["A", ["1", "2"], {"Same": {}}]}, "makes 'Same' more than once"),
        ({"One": {}, "Fn::ForEach::L": ["A", ["1"], {"One": {}}]}, "'One', which exists already"),
        ({"R": {"Fn::FindInMap": ["M", "a", "c"]}}, r"FindInMap M\.a\.c is not in Mappings"),
        ({"Fn::ForEach::L": ["A", {"Ref": "Nobody"}, {}]}, "Ref 'Nobody' is neither"),
    ],
)
def test_what_is_wrong_is_said(resources: Any, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        extended(resources)


def test_a_loop_without_the_transform_names_it(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(SAM.replace("AWS::LanguageExtensions, ", ""))
    with pytest.raises(
        TemplateError, match=r"template\.yaml: Fn::ForEach::Kinds needs .*Transform"
    ):
        template.load(path, {}, stack_name="s")
