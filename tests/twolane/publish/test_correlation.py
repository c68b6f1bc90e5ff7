from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from celery import group

from twolane.environment.logs import correlation
from twolane.publish.message import incoming, outgoing

if TYPE_CHECKING:
    from celery import Celery

REQUEST = {"requestId": "8476a536-e9f4-11e8-9739-2dfe598c3fcd", "traceId": "Root=1-5;Sampled=1"}


def test_a_request_is_carried_to_the_worker() -> None:
    headers = outgoing(REQUEST)
    assert headers == {
        "twolane_request_id": REQUEST["requestId"],
        "twolane_trace_id": REQUEST["traceId"],
    }
    assert incoming({**headers, "id": "t", "task": "shop.add"}) == {
        "originRequestId": REQUEST["requestId"],
        "traceId": REQUEST["traceId"],
    }


def test_a_task_hands_on_what_it_was_given_not_its_own_invocation() -> None:
    in_worker = {"requestId": "worker", "taskId": "t", **incoming(outgoing(REQUEST))}
    assert outgoing(in_worker) == outgoing(REQUEST)


def test_nothing_known_is_nothing_said() -> None:
    assert outgoing({}) == {}
    assert incoming({"twolane_request_id": 7}) == {}


def headers_of(message: dict[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = json.loads(message["Body"])["headers"]
    return headers


def test_messages_carry_it_singly_and_in_groups(app: Celery, queue: Any) -> None:
    add = app.tasks["shop.add"]
    token = correlation.set(REQUEST)
    try:
        add.delay(1, 2)
        group(add.s(n, n) for n in range(2)).delay()
    finally:
        correlation.reset(token)
    messages = queue.take(3)
    assert [headers_of(each)["twolane_request_id"] for each in messages] == [
        REQUEST["requestId"]
    ] * 3


def test_a_header_of_the_callers_own_stays(app: Celery, queue: Any) -> None:
    token = correlation.set(REQUEST)
    try:
        app.tasks["shop.add"].apply_async((1, 2), headers={"twolane_request_id": "mine"})
    finally:
        correlation.reset(token)
    assert headers_of(queue.take()[0])["twolane_request_id"] == "mine"


def test_without_a_request_the_envelope_is_stock(app: Celery, queue: Any) -> None:
    app.tasks["shop.add"].delay(1, 2)
    assert not [name for name in headers_of(queue.take()[0]) if name.startswith("twolane")]
