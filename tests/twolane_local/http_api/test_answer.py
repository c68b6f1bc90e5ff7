from __future__ import annotations

import pytest

from twolane_local.aws.events.http import HttpResponse
from twolane_local.aws.http_api.answers import head_of
from twolane_local.aws.http_api.requests import Received


def head(response: HttpResponse, **fields: object) -> tuple[str, bytes]:
    values = {"method": "GET", "raw_path": b"/", "query": b"", "headers": (), "body": b"", **fields}
    text, body = head_of(response, Received(**values), chunked=False)  # type: ignore[arg-type]
    return text.decode("latin-1"), body


def test_the_head_ends_with_an_empty_line() -> None:
    response = HttpResponse(200, (("content-type", "text/plain"), ("x-a", "b")), b"four")
    assert head(response) == (
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-a: b\r\ncontent-length: 4\r\n\r\n",
        b"four",
    )


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding", "connection", "upgrade"])
def test_a_function_does_not_set_the_connections_own_headers(name: str) -> None:
    text, _ = head(HttpResponse(200, ((name, "7"),), b"four"))
    assert text == "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def test_an_unknown_status_has_an_empty_phrase() -> None:
    """RFC 9112, 4: the space before it stays."""
    text, _ = head(HttpResponse(599, (), b""))
    assert text.startswith("HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_these_have_no_body_and_no_length(status: int) -> None:
    text, body = head(HttpResponse(status, (), b"must not be sent"))
    assert "content-length" not in text
    assert body == b""


def test_an_answer_to_head_says_the_length_and_has_no_body() -> None:
    text, body = head(HttpResponse(200, (), b"four"), method="HEAD")
    assert "content-length: 4\r\n" in text
    assert body == b""


def test_a_header_beyond_latin_1_does_not_break_the_response() -> None:
    text, _ = head(HttpResponse(200, (("x-a", "\N{SNOWMAN}"),), b""))
    assert "x-a: ?\r\n" in text


@pytest.mark.parametrize(
    ("version", "keep", "said"),
    [("1.1", True, None), ("1.1", False, "close"), ("1.0", True, "keep-alive")],
)
def test_what_is_said_of_the_connection(version: str, keep: bool, said: str | None) -> None:
    text, _ = head(HttpResponse(200), version=version, keep_alive=keep)
    assert (f"connection: {said}\r\n" in text) is (said is not None)
