"""The examples of https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html"""

from __future__ import annotations

import json

import pytest

from twolane_local.aws.logs.filter_patterns import InvalidPatternError, compiled

LOGS = ("[ERROR 400] BAD REQUEST", "[ERROR 401] UNAUTHORIZED REQUEST",
        "[ERROR 419] MISSING ARGUMENTS", "[ERROR 420] INVALID ARGUMENTS")  # fmt: skip
EVENT = json.dumps(
    {
        "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "arrayKey": ["a", "b"],
        "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "SomeObject": None,
        "cluster.name": "c", "bandwidth": 75, "latency": "50", "ok": True,
    }
)  # fmt: skip
FIELDS = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", [0, 1, 2, 3]),
        ('""', [0, 1, 2, 3]),
        ("ARGUMENTS", [2, 3]),
        ("ERROR ARGUMENTS", [2, 3]),
        ("arguments", []),
        ('"BAD REQUEST"', [0]),
        ("?BAD ?MISSING", [0, 2]),
        ("?BAD ?MISSING UNAUTHORIZED", [1]),
        ("ERROR -ARGUMENTS", [0, 1]),
        ('ERROR -"BAD REQUEST"', [1, 2, 3]),
        ("%ERROR 4[12]%", [2, 3]),
        ("%^.ERROR 40%", [0, 1]),
    ],
)
def test_terms_and_phrases(pattern: str, found: list[int]) -> None:
    matches = compiled(pattern)
    assert [number for number, line in enumerate(LOGS) if matches(line)] == found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('{ $.eventType = "UpdateTrail" }', True),
        ("{ $.eventType = Update* }", True),
        ("{$.eventType=%Up[a-d]ate%}", True),
        ('{ $.eventType != "UpdateTrail" }', False),
        ("{ $.sourceIPAddress != 123.123.* }", True),
        ("{ $.sourceIPAddress = 111.111.0.0/16 }", True),
        ('{ $.arrayKey[0] = "a" }', True),
        ('{ $.arrayKey[*] = "b" }', True),
        ("{ $.objectList[1].id = 2 }", True),
        ("{ $.objectList[1].id > 2 }", False),
        ("{ $.['cluster.name'] = c }", True),
        ("{ $.bandwidth > 74.9 && $.latency <= 50 }", True),
        ("{ $.bandwidth = 7.5e1 }", True),
        ('{ ($.bandwidth = 1) || ($.eventType = "UpdateTrail" && $.ok IS TRUE) }', True),
        ("{ $.SomeObject IS NULL }", True),
        ("{ $.Nothing NOT EXISTS }", True),
        ("{ $.ok NOT EXISTS }", False),
        ("{ $.ok IS FALSE }", False),
        ("{ $.eventType > 3 }", False),
    ],
)
def test_json(pattern: str, found: bool) -> None:
    assert compiled(pattern)(EVENT) is found
    assert not compiled(pattern)("not JSON")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("[ip, server, username, timestamp, request, status_code, bytes]", True),
        ("[ip, server, username, timestamp, request, status_code = 4*, bytes > 1000]", True),
        ("[ip, server, username, timestamp, request, status_code != 404, bytes]", False),
        ("[ip, ..., status_code = 404, bytes]", True),
        ("[ip = 127.0.0.0/8, ...]", True),
        ("[ip, server]", False),
        ('[ip, server = "Prod", ...]', True),
    ],
)
def test_fields_between_spaces(pattern: str, found: bool) -> None:
    assert compiled(pattern)(FIELDS) is found


@pytest.mark.parametrize(
    "pattern",
    ["{ $.a }", "{ $.a = }", "{ a = 1 }", "{ ($.a = 1 }", "{ $.a > x }", "{ $.a IS MAYBE }", "%(%",
     '"open', "{ $.a = 1 && }", "{ $.a = 1 } trailing %[% ", "{ $.a ! 1 }"],
)  # fmt: skip
def test_a_malformed_pattern(pattern: str) -> None:
    with pytest.raises(InvalidPatternError):
        compiled(pattern)
