from __future__ import annotations

import asyncio

import httpx
import pytest

from twolane_local.http.access import LocalOnly, is_local, refusal


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:4566", "127.0.0.1:4566", "[::1]:4566", "bucket.localhost:1",
     "host.docker.internal:4566", "LOCALHOST", "sqs.us-east-1.amazonaws.com"],
)  # fmt: skip
def test_names_of_this_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "evillocalhost",
     "192.168.0.7:4566", "amazonaws.com.evil.example"],
)  # fmt: skip
def test_names_that_a_rebinding_page_would_use(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
def test_where_a_request_comes_from(headers: dict[str, str], allowed: bool) -> None:
    pairs = [(b"host", b"127.0.0.1:4566")]
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    assert (refusal(pairs) is None) is allowed


def test_a_refused_request_never_reaches_the_app() -> None:
    reached = []

    async def app(scope: object, receive: object, send: object) -> None:
        reached.append(scope)

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=LocalOnly(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://evil.example") as client:
            return await client.get("/")

    response = asyncio.run(main())
    assert (response.status_code, reached) == (403, [])
    assert "evil.example" in response.json()["message"]
