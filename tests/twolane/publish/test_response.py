from __future__ import annotations

import io

import pytest

from twolane.publish.client import BrokenResponseError, Response, read


def answer(*lines: bytes, body: bytes = b"") -> io.BytesIO:
    return io.BytesIO(b"\r\n".join([*lines, b"", b""]) + body)


def test_an_answer_of_sqs() -> None:
    stream = answer(
        b"HTTP/1.1 200 OK",
        b"x-amzn-RequestId: 7a62c49f",
        b"Content-Length: 2",
        body=b"{}HTTP/1.1 next",
    )
    assert read(stream) == Response(200, b"{}", reusable=True)
    assert stream.read() == b"HTTP/1.1 next"


def test_chunks_of_a_stand_in() -> None:
    stream = answer(
        b"HTTP/1.1 500 Internal Server Error",
        b"Transfer-Encoding: Chunked",
        body=b"3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\ntrailer: x\r\n\r\nnext",
    )
    assert read(stream) == Response(500, b"abc0123456789", reusable=True)
    assert stream.read() == b"next"


def test_without_a_length_the_body_ends_with_the_connection() -> None:
    assert read(answer(b"HTTP/1.1 200", body=b"all")) == Response(200, b"all", reusable=False)


@pytest.mark.parametrize(
    "head", [(b"HTTP/1.0 200 OK",), (b"HTTP/1.1 200 OK", b"Connection: Close")]
)
def test_a_connection_that_will_close_is_not_reusable(head: tuple[bytes, ...]) -> None:
    assert not read(answer(*head, b"content-length: 0")).reusable


def test_interim_answers_are_skipped() -> None:
    stream = io.BytesIO(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"
    )
    assert read(stream) == Response(200, b"x", reusable=True)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (b"", "without an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 OK\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", "3 of 5 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "as a length"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "as a length"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n", "no end after 100"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "no end after 100"),
    ],
)
def test_what_is_broken_is_said(stream: bytes, says: str) -> None:
    with pytest.raises(BrokenResponseError, match=says):
        read(io.BytesIO(stream))
