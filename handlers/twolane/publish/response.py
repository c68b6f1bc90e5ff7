"""Read one HTTP/1.1 response off a kept-alive connection.

``http.client`` does it through the e-mail parser, which is a third of what an enqueue costs beside
Celery itself; SQS answers with a dozen plain header lines and a length.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

_MAX_LINE = 65536
_MAX_HEADERS = 100


class BrokenResponseError(ConnectionError):
    """The server hung up, or did not speak HTTP/1.1; whether it took the request is unknown."""


class Response(NamedTuple):
    """A whole answer; ``reusable``: whether another request may follow on the connection."""

    status: int
    body: bytes
    reusable: bool


def read(reader: BinaryIO) -> Response:
    """The next final response. Raises ``BrokenResponseError``, or what the reader raises."""
    version, status = _status(reader)
    headers = _headers(reader)
    while 100 <= status < 200:
        version, status = _status(reader)
        headers = _headers(reader)
    reusable = version != b"HTTP/1.0" and b"close" not in headers.get(b"connection", b"").lower()
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return Response(status, _chunks(reader), reusable)
    if b"content-length" in headers:
        return Response(status, _exactly(reader, _number(headers[b"content-length"], 10)), reusable)
    return Response(status, reader.read(), reusable=False)


def _status(reader: BinaryIO) -> tuple[bytes, int]:
    line = reader.readline(_MAX_LINE)
    if not line:
        raise BrokenResponseError("the server closed the connection without an answer")
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise BrokenResponseError(f"the server answered {line[:80]!r}, which is not HTTP/1.1")
    return version, int(rest[:3])


def _headers(reader: BinaryIO) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for _ in range(_MAX_HEADERS):
        line = reader.readline(_MAX_LINE)
        if line in {b"\r\n", b"\n"}:
            return headers
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    raise BrokenResponseError(f"the server's answer has no end after {_MAX_HEADERS} header lines")


def _chunks(reader: BinaryIO) -> bytes:
    parts = []
    while size := _number(reader.readline(_MAX_LINE).partition(b";")[0].strip(), 16):
        parts.append(_exactly(reader, size))
        reader.readline(_MAX_LINE)
    _headers(reader)
    return b"".join(parts)


def _exactly(reader: BinaryIO, size: int) -> bytes:
    body = reader.read(size)
    if len(body) < size:
        raise BrokenResponseError(f"the answer ended after {len(body)} of {size} bytes")
    return body


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise BrokenResponseError(f"the server gave {text[:80]!r} as a length")
    return number
