from __future__ import annotations

from typing import Any

import pytest

from twolane_local.errors import TemplateError
from twolane_local.template.values import Resolver, pseudo_parameters


def resolver() -> Resolver:
    def ref(name: str) -> Any:
        return {"Queue": "http://localhost/queue"}[name]

    def attribute(name: str, attribute: str) -> Any:
        return {("Queue", "Arn"): "arn:queue"}[name, attribute]

    return Resolver(
        {"Stage": "prod", "List": ["a", "b"], **pseudo_parameters("stack")},
        conditions={
            "Prod": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]},
            "Test": {"Fn::Not": [{"Condition": "Prod"}]},
            "Either": {"Fn::Or": [{"Condition": "Prod"}, {"Condition": "Test"}]},
            "Both": {"Fn::And": [{"Condition": "Prod"}, {"Condition": "Test"}]},
        },
        mappings={"Sizes": {"prod": {"memory": 512}}},
        ref=ref,
        attribute=attribute,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ({"Ref": "Stage"}, "prod"),
        ({"Ref": "Queue"}, "http://localhost/queue"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Fn::GetAtt": ["Queue", "Arn"]}, "arn:queue"),
        ({"Fn::GetAtt": "Queue.Arn"}, "arn:queue"),
        ({"Fn::Sub": "${Stage}-${Queue.Arn}-${!literal}"}, "prod-arn:queue-${literal}"),
        ({"Fn::Sub": ["${x}/${Stage}", {"x": {"Ref": "Queue"}}]}, "http://localhost/queue/prod"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}, 3]]}, "a-prod-3"),
        ({"Fn::Split": [",", "a,b"]}, ["a", "b"]),
        ({"Fn::Select": [1, {"Ref": "List"}]}, "b"),
        ({"Fn::Select": ["0", {"Fn::Split": ["|", "x|y"]}]}, "x"),
        ({"Fn::If": ["Prod", 1, 2]}, 1),
        ({"Fn::If": ["Test", 1, 2]}, 2),
        ({"Fn::If": ["Either", 1, 2]}, 1),
        ({"Fn::If": ["Both", 1, 2]}, 2),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "memory"]}, 512),
        ({"Fn::FindInMap": ["Sizes", "dev", "memory", {"DefaultValue": 1}]}, 1),
        ({"Fn::Base64": "a"}, "YQ=="),
        ({"Fn::Length": [1, 2]}, 2),
        ({"Fn::ToJsonString": {"a": {"Ref": "Stage"}}}, '{"a": "prod"}'),
        ({"a": {"Fn::If": ["Test", 1, {"Ref": "AWS::NoValue"}]}, "b": 2}, {"b": 2}),
        ([1, {"Ref": "AWS::NoValue"}, 2], [1, 2]),
        ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
    ],
)
def test_each_intrinsic(value: Any, expected: Any) -> None:
    assert resolver()(value) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"Ref": "Nobody"}, "neither a parameter nor a resource"),
        ({"Fn::GetAtt": ["Queue", "Nothing"]}, "Queue.Nothing"),
        ({"Fn::FindInMap": ["Sizes", "dev", "memory"]}, "Sizes.dev.memory"),
        ({"Fn::If": ["Unknown", 1, 2]}, "no condition 'Unknown'"),
        ({"Fn::ImportValue": "other"}, "make it a parameter"),
    ],
)
def test_what_cannot_be_resolved_says_what_to_do(value: Any, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        resolver()(value)


def test_a_part_that_only_aws_has_is_the_last_that_we_have() -> None:
    """AWS's ARN of a job definition ends with its number; which parts there are, it says."""
    resolve = Resolver(
        {"Mine": "a:b"},
        conditions={},
        mappings={},
        ref=lambda name: f"arn:{name}",
        attribute=lambda name, attribute: f"{name}/{attribute}",
    )
    assert resolve({"Fn::Select": [4, {"Fn::Split": [":", {"Ref": "Job"}]}]}) == "Job"
    with pytest.raises(TemplateError, match="index 4 of Select"):
        resolve({"Fn::Select": [4, {"Fn::Split": [":", {"Ref": "Mine"}]}]})
