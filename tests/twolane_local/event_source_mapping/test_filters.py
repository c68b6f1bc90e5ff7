"""The table of https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html"""

from __future__ import annotations

import pytest

from twolane_local.aws.events.patterns import PatternError, compile_filters


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
