"""Operators, with the examples of the pages that define them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twolane_local.aws.events.patterns import PatternError, compile_pattern

#: pattern, a match, no match.
#: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html#filtering-syntax
CASES = {
    "null": ({"UserID": [None]}, [{"UserID": None}], [{"UserID": ""}, {"UserID": 0}, {}]),
    "empty": ({"LastName": [""]}, [{"LastName": ""}], [{"LastName": None}, {}]),
    "equals": ({"Name": ["Alice"]}, [{"Name": "Alice"}], [{"Name": "alice"}, {"Name": ["Bob"]}]),
    "equals ignoring case": (
        {"Name": [{"equals-ignore-case": "alice"}]},
        [{"Name": "ALICE"}],
        [{"Name": "Alicia"}, {"Name": 1}],
    ),
    "and": (
        {"Location": ["New York"], "Day": ["Monday"]},
        [{"Location": "New York", "Day": "Monday"}],
        [{"Location": "New York"}, {"Location": "New York", "Day": "Friday"}],
    ),
    "or": (
        {"PaymentType": ["Credit", "Debit"]},
        [{"PaymentType": "Debit"}, {"PaymentType": ["Cash", "Credit"]}],
        [{"PaymentType": "Cash"}, {"PaymentType": []}],
    ),
    "or over several fields": (
        {"$or": [{"Location": ["New York"]}, {"Day": ["Monday"]}], "x": [1]},
        [{"Day": "Monday", "x": 1}, {"Location": "New York", "x": 1}],
        [{"Day": "Monday"}, {"x": 1}],
    ),
    "not": (
        {"Weather": [{"anything-but": ["Raining", "Snowing"]}]},
        [{"Weather": "Sunny"}, {"Weather": None}],
        [{"Weather": "Raining"}, {}],
    ),
    "not a number": (
        {"n": [{"anything-but": 5}]},
        [{"n": 6}, {"n": "5"}],
        [{"n": 5}, {"n": 5.0}],
    ),
    "not a prefix": (
        {"f": [{"anything-but": {"prefix": ["a", "b"]}}]},
        [{"f": "cab"}],
        [{"f": "ab"}, {"f": "ba"}, {}],
    ),
    "not a suffix": (
        {"f": [{"anything-but": {"suffix": ".txt"}}]},
        [{"f": "a.png"}],
        [{"f": "a.txt"}],
    ),
    "not ignoring case": (
        {"f": [{"anything-but": {"equals-ignore-case": ["A"]}}]},
        [{"f": "b"}],
        [{"f": "a"}, {"f": "A"}],
    ),
    "not a wildcard": (
        {"f": [{"anything-but": {"wildcard": "*/lib/*"}}]},
        [{"f": "a/src/b"}],
        [{"f": "a/lib/b"}],
    ),
    "numeric equals": (
        {"Price": [{"numeric": ["=", 100]}]},
        [{"Price": 100}, {"Price": 100.0}, {"Price": 1e2}],
        [{"Price": "100"}, {"Price": 101}, {"Price": True}],
    ),
    "numeric range": (
        {"Price": [{"numeric": [">", 10, "<=", 20]}]},
        [{"Price": 10.5}, {"Price": 20}],
        [{"Price": 10}, {"Price": 20.1}, {"Price": None}, {}],
    ),
    "exists": (
        {"ProductName": [{"exists": True}]},
        [{"ProductName": "x"}, {"ProductName": None}],
        [{}, {"ProductName": {"inner": 1}}],
    ),
    "does not exist": (
        {"ProductName": [{"exists": False}]},
        [{}, {"other": 1}],
        [{"ProductName": "x"}, {"ProductName": None}],
    ),
    "begins with": (
        {"Region": [{"prefix": "us-"}]},
        [{"Region": "us-east-1"}],
        [{"Region": "eu-us-1"}, {"Region": 1}],
    ),
    "begins with ignoring case": (
        {"Region": [{"prefix": {"equals-ignore-case": "US-"}}]},
        [{"Region": "us-east-1"}],
        [{"Region": "eu-west-1"}],
    ),
    "ends with": (
        {"FileName": [{"suffix": ".png"}]},
        [{"FileName": "a.png"}],
        [{"FileName": "a.png.txt"}],
    ),
    "wildcard": (
        {"f": [{"wildcard": "a*b\\*c\\\\.*"}]},
        [{"f": "axxb*c\\.z"}, {"f": "ab*c\\.\n"}],
        [{"f": "axxbzc\\.z"}, {"f": "ab*c.z"}],
    ),
    "cidr": (
        {"ip": [{"cidr": "10.0.0.0/24"}]},
        [{"ip": "10.0.0.255"}],
        [{"ip": "10.0.1.0"}, {"ip": "no address"}],
    ),
    "nested": (
        {"a": {"b": [{"numeric": [">", 1]}], "c": ["x"]}},
        [{"a": {"b": 2, "c": "x"}}, {"a": [{"b": 0, "c": "x"}, {"b": 2, "c": "x"}]}],
        [{"a": {"b": 2}}, {"a": 2}, {"a": [{"b": 2}, {"c": "x"}]}, {}],
    ),
    "true is not 1": ({"f": [True]}, [{"f": True}], [{"f": 1}, {"f": "true"}]),
    "1 is not true": ({"f": [1]}, [{"f": 1}, {"f": 1.0}], [{"f": True}]),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name):
    pattern, matching, others = CASES[name]
    matches = compile_pattern(pattern)
    assert [event for event in matching if not matches(event)] == []
    assert [event for event in others if matches(event)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        [],
        {"a": "x"},
        {"a": []},
        {"a": {}} | {"a": 1},
        {"a": [{"prefix": 1}]},
        {"a": [{"prefix": "x", "suffix": "y"}]},
        {"a": [{"nope": 1}]},
        {"a": [{"numeric": [">"]}]},
        {"a": [{"numeric": ["!", 1]}]},
        {"a": [{"numeric": [">", "1"]}]},
        {"a": [{"exists": "yes"}]},
        {"a": [{"anything-but": []}]},
        {"a": [{"anything-but": {"exists": True}}]},
        {"a": [{"anything-but": [None]}]},
        {"a": [{"wildcard": "a**b"}]},
        {"a": [{"cidr": "10.0.0.0/99"}]},
        {"a": [["x"]]},
        {"$or": [{"a": ["x"]}]},
        {"$or": {"a": ["x"]}},
    ],
)
def test_a_malformed_pattern_is_refused_by_name(pattern):
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_the_error_names_the_field():
    with pytest.raises(PatternError, match=r"a\.b of a pattern: numeric"):
        compile_pattern({"a": {"b": [{"numeric": 5}]}})


names = st.sampled_from(["a", "b", "$or"])
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
operators = st.sampled_from(
    ["prefix", "suffix", "equals-ignore-case", "wildcard", "exists", "cidr", "numeric",
     "anything-but", "nope"]
)  # fmt: skip
operands = st.recursive(
    leaf | st.sampled_from(["=", ">", "10.0.0.0/8", "a*", "\\"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(operators, inner, max_size=2),
    max_leaves=6,
)
rules = st.lists(leaf | st.dictionaries(operators, operands, max_size=2), max_size=3)
patterns = st.recursive(
    st.dictionaries(names, rules, max_size=2),
    lambda inner: (
        st.dictionaries(names, inner, max_size=2)
        | st.dictionaries(st.just("$or"), st.lists(inner, max_size=3), max_size=1)
    ),
    max_leaves=6,
)
events = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=patterns, event=events)
def test_a_pattern_is_refused_by_name_or_answers_for_any_event(pattern, event):
    try:
        matches = compile_pattern(pattern)
    except PatternError:
        return
    assert matches(event) in (True, False)
