from __future__ import annotations

import base64
import json
import time

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


@pytest.mark.parametrize(
    "name",
    ["pwd", "db_pwd", "otp", "OTP", "otp_code", "userOtp", "totp", "jwt", "id_jwt", "private_key",
     "privateKey", "PRIVATE-KEY", "passphrase", "passcode", "passwd", "pin", "cardPin", "cvv",
     "client_assertion", "code_verifier", "wsse:Password"],
)  # fmt: skip
def test_names_of_their_kind_are_hidden_too(name):
    assert redact.is_secret(name)


@pytest.mark.parametrize(
    "name", ["option", "footprint", "rootPath", "spinner", "shipping", "opinion", "notPaid", "key",
             "keyword", "compass", "bypass", "OtpionS"],
)  # fmt: skip
def test_names_that_only_sound_like_them_are_not(name):
    assert not redact.is_secret(name)


def multipart(*parts, boundary="----WebKitFormBoundaryX", end="\r\n"):
    lines = []
    for head, value in parts:
        lines += [f"--{boundary}", *head, "", value]
    return end.join([*lines, f"--{boundary}--", ""])


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize(
    "head",
    [
        ['Content-Disposition: form-data; name="password"'],
        ["Content-Disposition: form-data; name=password"],
        ['content-disposition:form-data;name="new_password"'],
        ['Content-Disposition: form-data; filename="name"; name="private_key"',
         "Content-Type: application/x-pem-file"],
        ["Content-Type: text/plain", 'Content-Disposition: form-data; name="otp"'],
        ["Content-Disposition: form-data;", ' name="jwt"'],
    ],
)  # fmt: skip
def test_fields_of_multipart_forms_are_hidden(head, end):
    plain = ['Content-Disposition: form-data; name="user"']
    nested = ['Content-Disposition: form-data; name="json"', "Content-Type: application/json"]
    content = multipart(
        (plain, "ada"), (head, f"hunter2{end}second line"), (nested, '{"pwd": "swordfish"}'),
        (plain, "bob"), end=end,
    )  # fmt: skip
    shown = redact.text(content)
    assert "hunter2" not in shown
    assert "second line" not in shown
    assert "swordfish" not in shown
    assert "ada" in shown
    assert "bob" in shown
    assert shown.count("WebKit") == content.count("WebKit")
    # Cut in the middle of the value, as the journal cuts what is long.
    begin = content.index("hunter2")
    for cut in range(begin + 1, begin + 7):
        assert redact.text(content[:cut]) == shown[: shown.index(redact.HIDDEN)] + redact.HIDDEN


def test_a_multipart_form_without_secrets_stays_as_it_was():
    content = multipart((['Content-Disposition: form-data; name="a"'], "1\r\n2"))
    assert redact.text(content) == content


@pytest.mark.parametrize(
    "content",
    [
        "<login><user>ada</user><password>hunter2</password></login>",
        '\ufeff<?xml version="1.0"?>\n<a><user>ada</user><Password\n>hunter2</Password></a>',
        '<s:Body><user>ada</user><wsse:Password Type="x">hunter2</wsse:Password></s:Body>',
        "<a><user>ada</user><pwd><![CDATA[hunter2 </pwd> hunter2]]></pwd></a>",
        "<a><user>ada</user><secret><part>hunter2</part><secret>x</secret>hunter2</secret></a>",
        '<a user="ada" password="hunter2"/>',
        "<a user='ada' password='hunter2'>x</a>",
        '<a x="1>0" user="ada" otp="hunter2"/>',
        '<a user="ada"><param name="password" value="hunter2"/></a>',
        '<a user="ada"><entry key="token">hunter2</entry></a>',
        "<a user='ada'><Name>password</Name><Value>hunter2</Value></a>",
        "<a user='ada'><Value>hunter2</Value><Key>jwt</Key></a>",
        '<html><input name="user" value="ada"><input type="password" name="p" value="hunter2">',
        "<a><user>ada</user><password>hunter2",
        '<a><user>ada</user><b password="hunter2',
    ],
)
def test_xml_is_looked_through(content):
    shown = redact.text(content)
    assert "hunter2" not in shown
    assert "ada" in shown


def test_xml_without_secrets_stays_as_it_was():
    content = "<!-- x --><a b='1'>2<c/><Name>n</Name><Value>v</Value></a> "
    assert redact.text(content) == content
    with_one = "<a><b>1</b><token>t</token><c d='2'/>3</a>"
    assert redact.text(with_one) == f"<a><b>1</b><token>{redact.HIDDEN}</token><c d='2'/>3</a>"


def test_json_with_a_byte_order_mark_is_json():
    shown = redact.text('\ufeff{"password": "hunter2", "user": "ada"}')
    assert "hunter2" not in shown
    assert "ada" in shown
    assert redact.text('\ufeff{"user": "ada"}') == '\ufeff{"user": "ada"}'


@pytest.mark.parametrize(
    "pairs",
    [
        [{"name": "user", "value": "ada"}, {"name": "password", "value": "hunter2"}],
        [{"name": "user", "value": "ada"}, {"value": {"a": ["hunter2"]}, "name": "jwt"}],
        [{"Key": "user", "Value": "ada"}, {"Key": "PRIVATE_KEY", "Value": "hunter2"}],
        [{"key": "user"}, {"x": "ada"}, {"Name": "token", "StringValue": "hunter2"}],
        [{"ParameterKey": "a", "ParameterValue": "ada"},
         {"ParameterKey": "DbPassword", "ParameterValue": "hunter2"}],
        [["user", "ada"], ["x-api-key", "hunter2"]],
        {"headers": [["user", "ada"], ["cookie", ["hunter2"]]]},
    ],
)  # fmt: skip
def test_pairs_of_name_and_value_are_looked_through(pairs):
    shown = redact.text(json.dumps(pairs))
    assert "hunter2" not in shown
    assert "ada" in shown


def test_a_list_of_words_is_no_pair():
    assert redact.values(["token", "reset"]) == ["token", "reset"]
    assert redact.values({"name": "reset", "value": "x"}) == {"name": "reset", "value": "x"}


def test_a_body_in_base64_is_looked_through():
    def event(content):
        body = base64.b64encode(content.encode()).decode()
        return {"isBase64Encoded": True, "body": body, "path": "/a"}

    form = multipart((['Content-Disposition: form-data; name="password"'], "hunter2"))
    assert redact.values(event(form)) == {**event(form), "body": redact.HIDDEN}
    assert redact.values(event("plain")) == event("plain")
    assert redact.values({"isBase64Encoded": True, "body": "no base64"})["body"] == "no base64"


def test_each_line_of_a_form_is_looked_through():
    shown = redact.text("user=ada\npassword=hunter2 and more\n")
    assert "hunter2" not in shown
    assert "and more" not in shown
    assert "ada" in shown


@pytest.mark.parametrize("piece", ["<", "<a ", "<a b='", "--x\r\nContent-Disposition: form-data;",
                                   "<![CDATA[", "password=", "[[", "<password>"])  # fmt: skip
def test_a_long_body_is_looked_through_in_time(piece):
    began = time.process_time()
    redact.text(piece * 20_000 + "password")
    assert time.process_time() - began < 2
