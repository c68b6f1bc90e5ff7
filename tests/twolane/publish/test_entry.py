from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twolane.publish.message import build

NOW = 1_772_366_400.0


def message(**properties: Any) -> dict[str, Any]:
    return {
        "body": "W10=",
        "headers": {"id": "t-1", "task": "shop.add", "eta": None},
        "properties": {"delivery_tag": "d", **properties},
    }


def built(message: dict[str, Any], **options: Any) -> Any:
    return build(message, **{"base64_encoding": False, "trace_header": None, "now": NOW, **options})


def test_a_message_is_its_envelope() -> None:
    entry = built(message())
    assert (entry.task_id, entry.name) == ("t-1", "shop.add")
    assert json.loads(entry.fields["MessageBody"]) == message()
    assert set(entry.fields) == {"MessageBody"}
    assert entry.size == len(entry.fields["MessageBody"])


def test_kombus_base64_is_around_the_whole_envelope() -> None:
    body = built(message(), base64_encoding=True).fields["MessageBody"]
    assert json.loads(base64.b64decode(body)) == message()


def test_attributes_leave_the_envelope_and_count() -> None:
    attribute = {"kind": {"DataType": "String", "StringValue": "é"}}
    entry = built(message(message_attributes=attribute))
    assert entry.fields["MessageAttributes"] == attribute
    assert "message_attributes" not in json.loads(entry.fields["MessageBody"])["properties"]
    assert entry.size == len(entry.fields["MessageBody"]) + len("kindString") + 2


@pytest.mark.parametrize(
    ("properties", "eta", "delay"),
    [
        ({}, None, None),
        ({}, "2026-03-01T12:01:00+00:00", 60),
        ({"delay_seconds": 5}, "2026-03-01T12:01:00+00:00", 5),
        ({"DelaySeconds": "7"}, None, 7),
        ({"delay_seconds": None, "DelaySeconds": 8}, None, 8),
        ({"delay_seconds": 100_000}, None, 900),
        ({"delay_seconds": 0}, "2026-03-01T12:01:00+00:00", 0),
        ({"delay_seconds": -1}, "2026-03-01T12:01:00+00:00", 60),
        ({"delay_seconds": "soon"}, "2026-03-01T12:01:00+00:00", 60),
    ],
)
def test_a_delay_is_what_was_asked_for_or_else_the_eta(
    properties: dict[str, Any], eta: str | None, delay: int | None
) -> None:
    text = message(**properties)
    text["headers"]["eta"] = eta
    assert built(text).fields.get("DelaySeconds") == delay


def test_protocol_1_has_its_id_beside_the_headers() -> None:
    text = message(correlation_id="t-2")
    text["headers"] = {}
    assert built(text).task_id == "t-2"


@given(st.text())
def test_what_sqs_gets_is_always_ascii(text: str) -> None:
    """SQS refuses some characters, among them control characters; escapes are never refused."""
    entry = built(message(correlation_id=text, reply_to=text))
    assert entry.fields["MessageBody"].isascii()
    assert entry.fields["MessageBody"].isprintable()
