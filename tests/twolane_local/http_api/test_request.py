from __future__ import annotations

from typing import Any

from twolane_local.aws.http_api.requests import Received, request_of


class At:
    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def received(*headers: tuple[bytes, bytes], **fields: Any) -> Received:
    values = {"method": "GET", "raw_path": b"/", "query": b"", "body": b"", **fields}
    return Received(headers=headers, **values)


def test_the_path_is_decoded_beside_the_one_that_was_sent() -> None:
    request = request_of(received(raw_path=b"/caf%C3%A9/a%2Fb", query=b"x=%20"), At(0))
    assert (request.path, request.raw_path, request.query) == (
        "/café/a/b",
        "/caf%C3%A9/a%2Fb",
        "x=%20",
    )


def test_names_are_lower_case_and_kept_as_the_client_wrote_them() -> None:
    request = request_of(received((b"X-MixedCase", b"1"), (b"Host", b"h.example")), At(0))
    assert request.headers[:2] == (("x-mixedcase", "1"), ("host", "h.example"))
    assert request.cased_headers[:2] == (("X-MixedCase", "1"), ("Host", "h.example"))
    assert request.domain == "h.example"


def test_what_the_gateway_says_itself_the_client_cannot() -> None:
    request = request_of(
        received(
            (b"X-Forwarded-Proto", b"https"), (b"X-Amzn-Trace-Id", b"forged"),
            (b"X-Forwarded-Port", b"443"), (b"X-Forwarded-For", b"203.0.113.7"),
            client="127.0.0.9", port=3000,
        ),
        At(1_700_000_000.25),
    )  # fmt: skip
    headers = dict(request.headers)
    assert len(headers) == len(request.headers) == len(request.cased_names) == 4
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-port"] == "3000"
    # It is extended, not replaced: the client names the proxies in front of it.
    assert headers["x-forwarded-for"] == "203.0.113.7, 127.0.0.9"
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    assert request.time_ms == 1_700_000_000_250


def test_each_request_has_an_id_of_its_own() -> None:
    ids = {request_of(received(), At(0)).request_id for _ in range(100)}
    assert len(ids) == 100
