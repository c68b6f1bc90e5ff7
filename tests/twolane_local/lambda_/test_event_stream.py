"""botocore, whose parser every boto3 user has, decodes the encoded events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from twolane_local.aws.lambda_.api import invoke_complete, message, payload_chunk


def decoded(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(event.headers, event.payload) for event in buffer]


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 1000])
def test_a_chunk(payload: bytes) -> None:
    ((headers, got),) = decoded(payload_chunk(payload))
    assert got == payload
    assert headers[":message-type"] == "event"
    assert headers[":event-type"] == "PayloadChunk"


def test_the_end_of_a_response() -> None:
    ((headers, payload),) = decoded(invoke_complete(None, "bG9n"))
    assert headers[":event-type"] == "InvokeComplete"
    assert json.loads(payload) == {"LogResult": "bG9n"}


@pytest.mark.parametrize(
    ("error", "code"),
    [(b'{"errorType": "ValueError"}', "ValueError"), (b"[]", "Unhandled"), (b"{", "Unhandled")],
)
def test_the_end_of_a_response_that_failed(error: bytes, code: str) -> None:
    ((_, payload),) = decoded(invoke_complete(error))
    assert json.loads(payload) == {"ErrorCode": code, "ErrorDetails": error.decode()}


def test_several_in_any_cut() -> None:
    whole = payload_chunk(b"one") + payload_chunk(b"two") + message({"é": "ü" * 300}, b"3")
    buffer = EventStreamBuffer()
    payloads = []
    for start in range(0, len(whole), 7):
        buffer.add_data(whole[start : start + 7])
        payloads += [event.payload for event in buffer]
    assert payloads == [b"one", b"two", b"3"]
