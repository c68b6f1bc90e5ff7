from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

import pytest

from twolane.publish.claimcheck import pointer_to
from twolane_local.errors import LocalError
from twolane_local.journal.messages import decode, task_message, with_arguments


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def message(*args: Any, **kwargs: Any) -> str:
    return task_message("app.tasks.send", args, kwargs, task_id="t-1", queue="tasks")[1]


def inner_plain(body: str) -> str:
    """The same with `body_encoding` utf-8, as an application may set it."""
    payload = json.loads(body)
    payload["body"] = base64.b64decode(payload["body"]).decode()
    payload["properties"]["body_encoding"] = "utf-8"
    return json.dumps(payload)


def compressed(body: str) -> str:
    payload = json.loads(body)
    payload["body"] = b64(zlib.compress(base64.b64decode(payload["body"])))
    payload["headers"]["compression"] = "application/x-gzip"
    return json.dumps(payload)


def protocol_1(body: str) -> str:
    payload = json.loads(body)
    args, kwargs, _ = json.loads(base64.b64decode(payload["body"]))
    task = {"task": payload["headers"]["task"], "id": "t-1", "args": args, "kwargs": kwargs}
    return json.dumps({**payload, "headers": {}, "body": b64(json.dumps(task))})


VARIANTS = [lambda body: body, b64, inner_plain, lambda body: b64(inner_plain(body)), compressed,
            protocol_1]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_of_a_message_is_read(variant: Any) -> None:
    task = decode(variant(message("a@example.com", times=2)))
    assert (task.id, task.name) == ("t-1", "app.tasks.send")
    assert (task.args, task.kwargs) == (("a@example.com",), {"times": 2})
    assert task.call() == "app.tasks.send('a@example.com', times=2)"
    assert not task.hidden
    assert task.problem is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_of_a_message_is_edited_in_its_form(variant: Any) -> None:
    before = variant(message("a@example.com", times=2))
    after = with_arguments(before, args=["b@example.com"])
    task = decode(after)
    assert (task.id, task.args, task.kwargs) == ("t-1", ("b@example.com",), {"times": 2})
    assert after.startswith("{") == before.startswith("{")


def test_an_edit_keeps_all_but_the_arguments() -> None:
    before = message("a@example.com")
    after = json.loads(with_arguments(before, kwargs={"times": 3}))
    expected = json.loads(before)
    args, kwargs, canvas = json.loads(base64.b64decode(after["body"]))
    assert (args, kwargs) == (["a@example.com"], {"times": 3})
    assert canvas == json.loads(base64.b64decode(expected["body"]))[2]
    assert after["headers"].pop("kwargsrepr") == "{'times': 3}"
    del expected["headers"]["kwargsrepr"]
    assert after["headers"] == expected["headers"]
    assert after["properties"] == expected["properties"]


@pytest.mark.parametrize(
    ("args", "hidden"),
    [((1, (2, 3), [(4,)]), False), (("x" * 3000,), False), (({"a": {"b": (1,)}},), False)],
)
def test_what_json_does_to_arguments_does_not_hide_them(args: Any, hidden: bool) -> None:
    assert decode(message(*args)).hidden is hidden


def test_arguments_that_the_application_hides_stay_hidden() -> None:
    _, body = task_message(
        "pay", ["4111 1111"], {"cvc": 123}, kwargsrepr="{'cvc': '***'}", argsrepr="(***)"
    )
    task = decode(body)
    assert task.hidden
    assert "4111 1111" not in json.dumps(task.as_dict()) + task.call() + repr(task)
    assert task.call() == "pay (***) {'cvc': '***'}"
    again = decode(with_arguments(body, args=["5111-1111"]))
    assert (again.hidden, again.args_repr) == (True, "(***)")


def pickled() -> str:
    payload = json.loads(message())
    payload["body"] = b64(pickle.dumps([[], {}, {}]))
    payload["content-type"] = "application/x-python-serialize"
    return json.dumps(payload)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("hello", "neither JSON nor JSON in base64"),
        ("[1]", "neither JSON nor JSON in base64"),
        ("{}", "no properties or headers"),
        (b64("\xff"), "neither JSON nor JSON in base64"),
        (pickled(), "only JSON is read"),
        (json.dumps({**json.loads(message()), "body": b64("{")}), "cannot be read"),
        (json.dumps({**json.loads(message()), "body": b64("[1]")}), "not that of a task"),
        (
            json.dumps({**json.loads(message()), "body": b64('[{"a": 1}, [], {}]')}),
            "not a list and an",
        ),
        (pointer_to("bucket", "claim-check/1"), "in S3"),
    ],
)
def test_what_is_no_task_is_described_and_not_edited(body: str, words: str) -> None:
    task = decode(body)
    assert words in (task.problem or "")
    with pytest.raises(LocalError):
        with_arguments(body, args=[])


def test_a_claim_check_says_where_its_body_is() -> None:
    assert decode(pointer_to("bucket", "claim-check/1")).as_dict() == {
        "pointer": "s3://bucket/claim-check/1",
        "problem": "its body is in S3 (a claim check)",
    }


def test_headers_are_read_even_where_the_arguments_are_not() -> None:
    task = decode(pickled())
    assert (task.id, task.name, task.args) == ("t-1", "app.tasks.send", None)
    assert task.call() == "app.tasks.send () {}"
