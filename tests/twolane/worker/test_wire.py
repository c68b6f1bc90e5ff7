"""Every form that kombu's SQS transport writes, from kombu's own code."""

from __future__ import annotations

import base64
import json
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twolane.errors import MalformedMessageError
from twolane.worker.message import open_envelope, to_message
from twolane.worker.records import Record, Run

ARGS = [["ü", 1], {"k": None}, {"callbacks": None}]


def published(*, outer: bool, inner: str | None, **headers: Any) -> str:
    raw = json.dumps(ARGS).encode()
    payload = {
        "body": base64.b64encode(raw).decode() if inner == "base64" else raw.decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "t", "id": "1", **headers},
        "properties": {"body_encoding": inner} if inner else {},
    }
    text = json.dumps(payload)
    return base64.b64encode(text.encode()).decode() if outer else text


def record(received: int = 1) -> Record:
    arn = "arn:aws:sqs:us-east-1:123456789012:tasks"
    return Record("m1", "r1", "", arn, {"ApproximateReceiveCount": str(received)})


def run() -> Run:
    return Run(record())


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", ["base64", "utf-8", None])
def test_every_form_is_read(outer: bool, inner: str | None) -> None:
    envelope = open_envelope(published(outer=outer, inner=inner))
    message = to_message(envelope, record(), run(), {"application/json"})
    assert message.payload == ARGS
    assert message.headers == {"task": "t", "id": "1"}
    assert message.delivery_tag == "m1"


def test_redelivered_comes_from_the_receive_count() -> None:
    envelope = open_envelope(published(outer=False, inner=None))
    for received, redelivered in ((1, False), (2, True)):
        message = to_message(envelope, record(received), run(), set())
        assert message.delivery_info == {"redelivered": redelivered}


def test_a_compressed_body() -> None:
    text = json.loads(published(outer=False, inner="base64", compression="application/x-gzip"))
    text["body"] = base64.b64encode(zlib.compress(json.dumps(ARGS).encode())).decode()
    message = to_message(open_envelope(json.dumps(text)), record(), run(), {"application/json"})
    assert message.payload == ARGS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither JSON nor JSON in base64"),
        ("{", "neither JSON nor JSON in base64"),
        ("é", "neither JSON nor JSON in base64"),
        (base64.b64encode(b"\xff\xfe").decode(), "neither JSON nor JSON in base64"),
        (base64.b64encode(b"[1]").decode(), "not an object"),
        ("{}", "no properties or headers"),
        ('{"properties": {}, "headers": 1}', "no properties or headers"),
        ('{"properties": {}, "body": 1}', "own body is not text"),
    ],
)
def test_anything_else_is_malformed(text: str, why: str) -> None:
    with pytest.raises(MalformedMessageError, match=why):
        open_envelope(text)


def test_a_body_that_does_not_decompress() -> None:
    envelope = open_envelope(published(outer=False, inner=None, compression="zlib"))
    with pytest.raises(MalformedMessageError, match="does not decompress"):
        to_message(envelope, record(), run(), set())


@given(
    st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: base64.b64encode(raw).decode())
)
def test_no_text_breaks_the_reader(text: str) -> None:
    with suppress(MalformedMessageError):
        open_envelope(text)
