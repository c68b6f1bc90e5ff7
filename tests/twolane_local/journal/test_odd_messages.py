"""Messages that nobody meant to send: no reader of them raises."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twolane_local.cli.text import print_json
from twolane_local.console.requests import Json
from twolane_local.console.task_routes import real_arguments
from twolane_local.errors import LocalError
from twolane_local.faults.seams import BODIES, has_consequences, task_id_of, task_name_of
from twolane_local.journal import redact
from twolane_local.journal.messages import decode, task_message, with_arguments
from twolane_local.journal.related_events import canvas_place_of

ENVELOPE: dict[str, Any] = json.loads(task_message("shop.add", (1,), {"k": 2}, task_id="t")[1])
DEEP = "[" * 100_000 + "]" * 100_000
FLAT = 900  # as deep as json reads it on an empty stack, and too deep for what comes after

words = st.sampled_from(
    ["", "x", "a\ud800", "body", "headers", "properties", "args", "kwargs", "task", "id", "base64",
     "utf-8", "zlib", "application/json", "chord", "options", "password", "argsrepr", "payload"]
)  # fmt: skip
plain = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
HEADERS = [
    "task", "id", "parent_id", "retries", "argsrepr", "kwargsrepr", "eta", "group", "compression",
    "root_id", "origin", "expires",
]  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> str:
    found = json.loads(json.dumps(ENVELOPE))
    for _ in range(draw(st.integers(1, 4))):
        value = draw(values)
        match draw(st.sampled_from(["part", "header", "inner", "whole", "old"])):
            case "part":
                found[draw(st.sampled_from([*ENVELOPE]))] = value
            case "header" if isinstance(found["headers"], dict):
                found["headers"][draw(st.sampled_from(HEADERS))] = value
            case "inner":
                content: Any = [[1], {"k": 2}, {"chord": None}]
                content[draw(st.integers(0, 2))] = value
                found["body"] = base64.b64encode(json.dumps(content).encode()).decode()
            case "old":
                content = {"task": "shop.add", "id": "t", "args": [1], "kwargs": {}}
                content[draw(st.sampled_from([*HEADERS, "args", "kwargs"]))] = value
                found |= {"headers": {}, "body": base64.b64encode(json.dumps(content).encode())
                          .decode()}  # fmt: skip
            case "whole":
                return json.dumps(value)
            case _:
                pass
    text = json.dumps(found)
    return base64.b64encode(text.encode()).decode() if draw(st.booleans()) else text


def deep(levels: int, name: str | None = None) -> str:
    """A message with something nested in its own body, or in a header."""
    nest = "[" * levels + "]" * levels
    inner = json.dumps(f"[{nest}, {{}}, {{}}]") if name is None else '"[[], {}, {}]"'
    headers = f', "{name}": {nest}' if name else ""
    return (
        f'{{"body": {inner}, "content-type": "application/json", "content-encoding": "utf-8", '
        f'"headers": {{"task": "t", "id": "i"{headers}}}, "properties": {{}}}}'
    )


WORST = [
    DEEP, deep(100_000), deep(FLAT), deep(FLAT, "argsrepr"), deep(FLAT, "parent_id"),
    deep(100_000, "id"), '{"a": ' + "9" * 10_000 + "}", "[1e999, NaN, -Infinity]",
    json.dumps({**ENVELOPE, "headers": {"task": "a\ud800", "id": "a\ud800"}}),
    json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": 5}]),
]  # fmt: skip


def read_by_all(body: str) -> None:
    task = decode(body)
    assert isinstance(task.call(), str)
    shown = redact.values(task.as_dict())
    assert json.loads(Json({"task": shown, "body": redact.text(body)}).body)
    print_json({"task": shown})
    redact.values({"body": body, "payload": [body]})
    with suppress(LocalError):
        with_arguments(body, args=[2])
    canvas_place_of(body)
    real_arguments(body)
    has_consequences(body)
    for reader in (task_id_of, task_name_of):
        assert isinstance(reader(body), str | None)
    for spoil in BODIES.values():
        assert isinstance(spoil(body), str)


@pytest.mark.parametrize("body", WORST, ids=range(len(WORST)))
def test_the_worst_are_described(body: str) -> None:
    read_by_all(body)
    assert decode(body).problem is not None or decode(body).name is not None


many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(body=bodies())
def test_no_message_breaks_who_reads_it(body: str) -> None:
    read_by_all(body)


def test_protocol_1_is_shown_with_what_is_in_its_body() -> None:
    content = {"task": "t", "id": "i", "args": [1], "kwargs": {}, "retries": 2, "eta": "e"}
    task = decode(json.dumps({**ENVELOPE, "headers": {}, "properties": {},
                              "body": json.dumps(content)}))  # fmt: skip
    assert (task.id, task.name, task.args, task.retries, task.eta) == ("i", "t", (1,), 2, "e")
