"""What a message says of its task: what is read, what counts as absent, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane.errors import MalformedMessageError
from twolane.worker.message import TaskFacts, decoded, open_envelope, read_facts

from .conftest import body


def facts(text: str) -> TaskFacts:
    return read_facts(open_envelope(text), lambda one: decoded(one, {"application/json"}))


def of(**headers: Any) -> TaskFacts:
    return facts(body("t", task_id="1", **headers))


def in_body(**content: Any) -> str:
    whole = json.loads(body("t", task_id="1"))
    return json.dumps({**whole, "headers": {}, "body": json.dumps(content)})


def test_a_first_attempt() -> None:
    found = of()
    assert (found.task_id, found.name, found.retries, found.replaced) == ("1", "t", 0, 0)
    assert (found.parent_id, found.publish, found.stamps) == (None, "d1", ())


def test_a_retry_with_stamps() -> None:
    found = of(
        retries=2, replaced_task_nesting=1, parent_id="p", eta="2026-01-01T00:00:00Z",
        stamped_headers=["a", "b", "c"], stamps={"a": ["1", 2], "b": "x", "other": "y"},
        twolane_request_id="r", expires="2026-01-02T00:00:00Z",
    )  # fmt: skip
    assert (found.retries, found.replaced, found.parent_id) == (2, 1, "p")
    assert found.stamps == (("a", "1"), ("a", 2), ("b", "x"))
    assert found.origin == {"originRequestId": "r"}
    assert found.expires == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize("value", ["x", None, [], {}, -1, float("nan"), 10**30, 1e30])
def test_a_count_that_is_none_is_zero(value: Any) -> None:
    found = of(retries=value, replaced_task_nesting=value)
    assert (found.retries, found.replaced) == (0, 0)
    assert (found.headers["retries"], found.headers["replaced_task_nesting"]) == (0, 0)


@pytest.mark.parametrize(("value", "count"), [(True, 1), (1.0, 1), (2.5, 2)])
def test_what_celery_counts_on_with(value: Any, count: int) -> None:
    assert of(retries=value).retries == count


@pytest.mark.parametrize("value", [5, {"a": 1}, [1], True])
def test_a_parent_of_another_kind_is_still_one_parent(value: Any) -> None:
    found = of(parent_id=value).parent_id
    assert isinstance(found, str)
    assert found == of(parent_id=value).parent_id


def test_protocol_1_has_it_in_the_body() -> None:
    found = facts(in_body(task="t", id="2", args=[], kwargs={}, retries=3, eta="x", expires="e"))
    assert (found.task_id, found.name, found.retries) == ("2", "t", 3)
    assert found.expires == "e"


def test_headers_go_before_a_body_of_protocol_1() -> None:
    whole = json.loads(in_body(task="b", id="2", args=[], retries=3))
    found = facts(json.dumps({**whole, "headers": {"task": "t", "retries": 1}}))
    assert (found.task_id, found.name, found.retries) == ("2", "t", 1)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"id": 5}, "id is a number"),
        ({"id": ""}, "id is empty"),
        ({"id": None}, "id is empty"),
        ({"id": "\ud800"}, "id is a text with a lone surrogate"),
        ({"task": None}, "task is null"),
        ({"task": {}}, "task is an object"),
        ({"shadow": ""}, None),
        ({"shadow": ["x"]}, "shadow"),
        ({"stamped_headers": 5}, "stamped_headers is a number"),
        ({"stamped_headers": [{}]}, "stamped_headers is a list"),
        ({"stamps": True}, "stamps is a truth value"),
        ({"stamped_headers": "a", "stamps": {"a": ["x"] * 1001}}, "more than 1,000"),
        ({"timelimit": [1, "x"]}, "timelimit is a list"),
        ({"timelimit": [float("nan"), 1]}, "timelimit is a list"),
        ({"timelimit": [1, float("inf")]}, None),
        ({"timelimit": [None, 0]}, None),
    ],
)
def test_the_field_is_named(headers: dict[str, Any], field: str | None) -> None:
    text = json.loads(body("t", task_id="1"))
    text["headers"] |= headers
    if field is None:
        facts(json.dumps(text))
        return
    with pytest.raises(MalformedMessageError, match=field):
        facts(json.dumps(text))


@pytest.mark.parametrize("content", ["[]", "{}", '{"args": []}', "5", "null"])
def test_a_message_that_names_no_task(content: str) -> None:
    whole = json.loads(body("t", task_id="1"))
    with pytest.raises(MalformedMessageError, match="names no task"):
        facts(json.dumps({**whole, "headers": {}, "body": content}))


@pytest.mark.parametrize("tag", [{"a": 1}, [1], 5, True, "x" * 300, "\ud800" * 300])
def test_any_delivery_tag_is_a_short_text_of_its_own(tag: Any) -> None:
    whole = json.loads(body("t", task_id="1"))
    whole["properties"]["delivery_tag"] = tag
    found = facts(json.dumps(whole)).publish
    assert found is not None
    assert len(found) <= 255
    assert found == facts(json.dumps(whole)).publish
