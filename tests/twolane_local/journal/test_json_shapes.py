from __future__ import annotations

import json

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.console.state import messages_of
from twolane_local.journal.json_shapes import message_as_json, trace_as_json
from twolane_local.journal.messages import task_message
from twolane_local.journal.trace import trace
from twolane_local.model.message import AttributeValue


def test_a_trace_is_json_without_secrets(tell, journal):
    journal.record("request.received", request_id="request-0", method="POST", path="/",
                   query="token=hunter2", headers=(("cookie", "hunter2"),),
                   body=b'{"password": "hunter2", "name": "ada"}')  # fmt: skip
    journal.record("invocation.started", request_id="request-0", function="Api",
                   payload=b'{"headers": {"cookie": "hunter2"}}')  # fmt: skip
    shown = trace_as_json(trace(list(journal), "request-0", now=tell.clock.now))
    text = json.dumps(shown)
    assert "hunter2" not in text
    assert "ada" in text
    assert shown["spans"][0]["detail"]["headers"] == [["cookie", "•••"]]
    assert shown["root"] == "request:request-0"
    assert shown["running"] is True


def message(tell, body, **more):
    tell.queues.send("tasks", NewMessage(body, **more))
    return message_as_json(messages_of(tell.queues, "tasks")[0][-1])


def test_a_message_is_shown_as_the_task_that_it_is(tell):
    _, body = task_message("app.send", ["a@example.com"], {"times": 2}, task_id="task-aaaa")
    shown = message(tell, body, attributes={"n": AttributeValue("Number", "1")})
    assert shown["task"]["name"] == "app.send"
    assert (shown["task"]["args"], shown["task"]["kwargs"]) == (["a@example.com"], {"times": 2})
    assert shown["messageAttributes"] == {"n": {"DataType": "Number", "StringValue": "1"}}
    assert shown["attributes"]["ApproximateReceiveCount"] == "0"
    assert shown["body"] == body


def test_hidden_arguments_are_not_shown(tell):
    _, body = task_message("app.pay", ["hunter2"], argsrepr="('***',)")
    shown = message(tell, body)
    assert "hunter2" not in json.dumps(shown)
    assert (shown["task"]["hidden"], shown["task"]["argsRepr"]) == (True, "('***',)")


def test_what_is_no_task_says_why(tell):
    shown = message(tell, "<script>alert(1)</script>")
    assert "task" not in shown
    assert shown["problem"].startswith("not a Celery message")
    assert shown["body"] == "<script>alert(1)</script>"


def test_long_bodies_are_cut_in_lists(tell):
    tell.queues.send("tasks", NewMessage("x" * 5_000))
    shown = message_as_json(messages_of(tell.queues, "tasks")[0][0], cut=100)
    assert shown["body"] == "x" * 100 + "…"
