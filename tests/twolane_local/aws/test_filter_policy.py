"""https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html"""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.aws.events.patterns import BODY, PatternError, compile_policy

ATTRIBUTES = {
    "team": {"Type": "String", "Value": "red"},
    "size": {"Type": "Number", "Value": "3.50"},
    "interests": {"Type": "String.Array", "Value": '["rugby", "baseball", 5, true, null]'},
    "broken": {"Type": "String.Array", "Value": "rugby"},
    "address": {"Type": "String", "Value": "10.0.0.7"},
}


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({}, None),
        ({"team": ["red", "blue"]}, True),
        ({"team": ["red"], "size": [3.5]}, True),
        ({"team": ["red"], "size": [4]}, False),
        ({"size": ["3.50"]}, False),
        ({"size": [{"numeric": [">", 3, "<=", 3.5]}]}, True),
        ({"interests": ["baseball"]}, True),
        ({"interests": [5]}, True),
        ({"interests": [True]}, True),
        ({"interests": [None]}, True),
        ({"interests": [{"anything-but": ["rugby", "football"]}]}, True),
        ({"interests": [{"prefix": "foot"}]}, False),
        ({"broken": ["rugby"]}, True),
        ({"missing": [{"exists": False}]}, True),
        ({"missing": [{"anything-but": "x"}]}, False),
        ({"address": [{"cidr": "10.0.0.0/24"}]}, True),
        ({"team": [{"equals-ignore-case": "RED"}]}, True),
        ({"team": [{"suffix": "ed"}]}, True),
        ({"$or": [{"team": ["blue"]}, {"size": [{"numeric": ["=", 3.5]}]}]}, True),
    ],
)
def test_attributes(policy: dict[str, Any], wanted: bool | None) -> None:
    if wanted is None:
        with pytest.raises(PatternError):
            compile_policy(policy, None)
    else:
        assert compile_policy(policy, "MessageAttributes")("", ATTRIBUTES) is wanted


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"order": {"total": 10}, "team": "red"}, True),
        ({"order": [{"total": 1}, {"total": 10}], "team": ["blue", "red"]}, True),
        ({"order": {"total": 10}}, False),
        ("text", False),
        ([{"order": {"total": 10}, "team": "red"}], False),
    ],
)
def test_body(body: Any, wanted: bool) -> None:
    wants = compile_policy({"order": {"total": [10]}, "team": ["red"]}, BODY)
    assert wants(json.dumps(body), {}) is wanted
    assert wants("no JSON", {}) is False
