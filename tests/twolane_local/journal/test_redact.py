from __future__ import annotations

import json

import pytest

from twolane_local.journal import redact
from twolane_local.journal.messages import task_message


@pytest.mark.parametrize(
    "name",
    ["Authorization", "cookie", "Set-Cookie", "X-Api-Key", "password", "client_secret",
     "x-amz-security-token", "apiKey"],
)  # fmt: skip
def test_values_of_such_names_are_not_shown(name):
    assert redact.headers([(name, "hunter2"), ("accept", "*/*")]) == [
        [name, redact.HIDDEN],
        ["accept", "*/*"],
    ]
    assert "hunter2" not in redact.text(json.dumps({"a": [{name: "hunter2"}]}))


def test_json_is_looked_through_however_deep():
    body = json.dumps({"body": json.dumps({"password": "hunter2", "name": "ada"})})
    shown = redact.text(body)
    assert "hunter2" not in shown
    assert "ada" in shown


def test_what_holds_no_secret_stays_as_it_was():
    body = '{"a":  1, "b": [true, null]}'
    assert redact.text(body) == body
    assert redact.text("plain words") == "plain words"


def test_forms_and_queries_are_looked_through():
    assert redact.query("a=1&token=hunter2") == "a=1&token=%E2%80%A2%E2%80%A2%E2%80%A2"
    assert "hunter2" not in redact.text("user=ada&password=hunter2")
    assert "hunter2" not in json.dumps(redact.values({"rawQueryString": "api_key=hunter2"}))


def test_json_that_was_cut_is_hidden_where_a_secret_may_be_in_it():
    assert redact.text('{"password": "hunt') == redact.HIDDEN
    assert redact.text('{"name": "ad') == '{"name": "ad'


def test_arguments_that_a_publisher_hides_are_not_shown():
    _, hidden = task_message("t", ["hunter2"], argsrepr="('***',)")
    assert "hunter2" not in redact.text(hidden)
    assert "'***'" in redact.text(hidden)
    _, open_ = task_message("t", ["hunter2"])
    assert redact.text(open_) == open_


def test_arguments_with_secret_names_are_not_shown_in_base64_either():
    _, body = task_message("t", [], {"password": "hunter2"})
    envelope = json.loads(redact.text(body))
    assert envelope["body"] == redact.HIDDEN


def test_an_sqs_event_is_looked_through():
    _, hidden = task_message("t", ["hunter2"], argsrepr="('***',)")
    event = json.dumps({"Records": [{"messageId": "m", "body": hidden}]})
    assert "hunter2" not in redact.text(event)


def test_an_event_of_the_journal(journal):
    journal.record(
        "request.received", request_id="r", method="POST", path="/", query="token=hunter2",
        headers=(("authorization", "hunter2"), ("accept", "*/*")), body=b'{"password": "hunter2"}',
    )  # fmt: skip
    event = next(iter(journal))
    short = redact.event(event)
    assert short["requestId"] == "r"
    assert "body" not in short["data"]
    assert "headers" not in short["data"]
    whole = redact.event(event, content=True)
    assert whole["data"]["headers"][1] == ["accept", "*/*"]
    assert "hunter2" not in json.dumps([short, whole])


@pytest.mark.parametrize("value", ["hunter2", "", 4711, ["hunter2"], {"a": "hunter2"}])
def test_a_field_of_a_log_line_with_such_a_name_is_not_shown(journal, value):
    journal.record("log", message="signed in", password=value, user="ada")
    shown = redact.event(next(iter(journal)))["data"]
    assert shown == {
        "message": "signed in", "user": "ada", "password": redact.HIDDEN if value else "",
    }  # fmt: skip


def test_a_body_with_such_a_name_is_not_shown(journal):
    journal.record("log", line="signed in", token_payload='{"name": "ada"}', query="a=1")
    shown = redact.event(next(iter(journal)), content=True)["data"]
    assert shown == {"line": "signed in", "token_payload": redact.HIDDEN, "query": "a=1"}
