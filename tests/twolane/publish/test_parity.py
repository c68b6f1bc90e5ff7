"""Whatever is published, SQS gets from us what it would get from kombu: by property."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.SQS import Transport as StockTransport

from twolane.publish.transport import Transport

from ...installed import since  # noqa: TID252

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/tasks"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
header_values = json_values | st.datetimes() | st.uuids() | st.decimals(allow_nan=False)
delays = st.none() | st.integers(-5, 2000) | st.sampled_from(["60", "soon", 3.7, float("inf")])
properties = st.fixed_dictionaries(
    {"reply_to": st.text(max_size=10), "delivery_mode": st.sampled_from([1, 2])},
    optional={
        # Before 5.7 kombu sends a group to FIFO queues only, and knows one spelling of the delay.
        **(
            {
                "MessageGroupId": st.text("abc-", min_size=1, max_size=9),
                "delay_seconds": delays,
                "DelaySeconds": delays,
            }
            if since("kombu", 5, 7)
            else {}
        ),
        "message_attributes": st.just({"k": {"DataType": "String", "StringValue": "v"}}),
        "expiration": st.just("60000"),
        "anything": json_values,
    },
)


class Recorder:
    """Takes the place of boto3's client and of ours."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def send_message(self, **fields: Any) -> None:
        self.sent = fields

    def call(self, action: str, target: Any, fields: Any) -> dict[str, Any]:
        assert action == "SendMessage"
        self.sent = {"QueueUrl": target.queue_url, **fields}
        return {"MessageId": "m"}


def sent_by(transport: type, options: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    recorder = Recorder()
    with Connection("sqs://AKID:secret@", transport=transport) as connection:
        connection.transport_options = {
            "region": "us-east-1", "predefined_queues": {"tasks": {"url": URL}}, **options,
        }  # fmt: skip
        channel: Any = connection.channel()
        channel._next_delivery_tag = lambda: "tag"
        clients: dict[str, Any] = {}
        if transport is StockTransport:
            clients = channel._predefined_queue_clients
        else:
            channel._owner.sqs = SimpleNamespace(call=recorder.call, close=lambda: None)
        prepared = channel.prepare_message(
            message["body"], message["priority"], "application/json", "utf-8",
            message["headers"], message["properties"],
        )  # fmt: skip
        with patch.dict(clients, tasks=recorder):  # of the whole process, before kombu 5.7
            channel.basic_publish(prepared, exchange="", routing_key="tasks")
    return recorder.sent


@pytest.fixture(autouse=True)
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)


@settings(max_examples=60, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {},
        optional={
            "sqs_base64_encoding": st.booleans(),
            "body_encoding": st.sampled_from(["base64", None]),
        },
    ),
    message=st.fixed_dictionaries(
        {
            "body": st.text(max_size=40),
            "priority": st.none() | st.integers(0, 12),
            "headers": st.dictionaries(st.text(max_size=8), header_values, max_size=4),
            "properties": properties,
        }
    ),
)
def test_the_same_message_makes_the_same_request(
    options: dict[str, Any], message: dict[str, Any]
) -> None:
    message["headers"].pop("eta", None)
    theirs = sent_by(StockTransport, options, copy.deepcopy(message))
    ours = sent_by(Transport, options, copy.deepcopy(message))
    assert ours == theirs
