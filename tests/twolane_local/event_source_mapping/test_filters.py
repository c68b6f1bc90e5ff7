"""The table of https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html"""

from __future__ import annotations

import json

import pytest

from twolane_local.aws.events.patterns import PatternError, compile_filters, read_filters


def record(body, **more):
    return {"messageId": "1", "body": body, "attributes": {"SenderId": "me"}, **more}


TEXT = {"body": [{"prefix": "hello"}]}
JSON = {"body": {"RequestCode": ["BBBB"]}}
OTHER = {"attributes": {"SenderId": ["me"]}}


@pytest.mark.parametrize(
    ("pattern", "body", "wanted"),
    [
        (TEXT, "hello world", True),
        (TEXT, "goodbye", False),
        (OTHER, "hello", True),
        (JSON, "hello", False),
        (TEXT, '{"hello":1}', False),
        (OTHER, '{"RequestCode":"AAAA"}', True),
        (JSON, '{"RequestCode":"BBBB"}', True),
        (JSON, '{"RequestCode":"AAAA"}', False),
        ({**JSON, "attributes": {"SenderId": ["you"]}}, '{"RequestCode":"BBBB"}', False),
        ({"body": ["42"]}, "42", True),
        ({"$or": [JSON, TEXT]}, "hello", True),
        ({"$or": [JSON, TEXT]}, '{"RequestCode":"BBBB"}', True),
        ({"$or": [JSON, TEXT]}, '{"RequestCode":"AAAA"}', False),
    ],
)
def test_bodies_and_patterns(pattern, body, wanted):
    wants = compile_filters([pattern])
    assert wants is not None
    assert wants(record(body)) is wanted


def test_one_of_several_filters_is_enough():
    wants = compile_filters([JSON, TEXT])
    assert wants(record("hello"))
    assert wants(record('{"RequestCode":"BBBB"}'))
    assert not wants(record('{"RequestCode":"CCCC"}'))


def test_no_filters_want_everything():
    assert compile_filters([]) is None


def test_the_quotas():
    with pytest.raises(PatternError, match="at most 10 filters"):
        compile_filters([TEXT] * 11)
    with pytest.raises(PatternError, match="at most 4096 characters"):
        compile_filters([{"body": ["x" * 4096]}])


def pattern(text):
    return {"Filters": [{"Pattern": text}]}


def test_patterns_are_kept_as_they_were_written():
    text = '{ "body": {"a": [1, 1e0, "\\u00e9"]} }'
    assert read_filters(pattern(text)) == (text,)
    assert read_filters({"Filters": []}) == read_filters({}) == ()


@pytest.mark.parametrize(
    ("criteria", "problem"),
    [
        (None, "FilterCriteria must be a map with Filters, not None"),
        ([], "FilterCriteria must be a map"),
        ({"Filter": []}, "FilterCriteria must be a map with Filters"),
        ({"Filters": None}, "FilterCriteria.Filters must be a list, not None"),
        ({"Filters": {}}, "Filters must be a list"),
        ({"Filters": [None]}, "FilterCriteria.Filters.0 must be a map with a Pattern, not None"),
        ({"Filters": [{"Pattern": '{"a":[1]}'}, {}]}, "Filters.1 must be a map with a Pattern"),
        ({"Filters": [{"Pattern": "{}", "More": 1}]}, "Filters.0 must be a map with a Pattern"),
        (pattern(None), "FilterCriteria.Filters.0.Pattern must be JSON text, not None"),
        (pattern({"body": []}), "must be JSON text"),
        (pattern(" " * 4097), "more than 4096 characters"),
        (pattern(""), "not JSON"),
        (pattern("{"), "not JSON"),
        (pattern("{'a': [1]}"), "not JSON"),
        (pattern('{"a": [NaN]}'), "NaN is not JSON"),
        (pattern("[" * 4000), "not JSON"),
        (pattern("null"), "must be a JSON object, not null"),
        (pattern('"simple string"'), "must be a JSON object"),
        (pattern("1"), "must be a JSON object, not 1"),
        (pattern("[]"), "must be a JSON object"),
        (pattern("{}"), "at least one field"),
        (pattern('{"eventSource": "aws:sqs"}'), "must be an object or a list of rules"),
        (pattern('{"eventSource": []}'), "list of rules, and not empty"),
        (pattern('{"body": {}}'), "and not empty"),
        (pattern('{"a":' * 500 + "[1]" + "}" * 500), "more than 100 levels deep"),
        (pattern('{"$or":[{"a":[1]},' * 150 + '{"b":[1]}' + "]}" * 150), "100 levels deep"),
    ],
)
def test_a_malformed_filter_is_a_clear_error(criteria, problem):
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html"""
    with pytest.raises(PatternError, match=problem):
        read_filters(criteria)


def test_the_deepest_pattern_matches_the_deepest_event():
    deep = '{"a":' * 98 + "[1]" + "}" * 98
    (text,) = read_filters(pattern(f'{{"body": {deep}}}'))
    wants = compile_filters([json.loads(text)])
    assert wants(record(deep))
    assert not wants(record("{}"))
