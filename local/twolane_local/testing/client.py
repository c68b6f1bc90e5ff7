"""An HTTP client whose requests go through event, handler and response, without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, MutableMapping

    from twolane_local.aws.http_api.gateways import Gateway

    Run = Callable[[Coroutine[Any, Any, None]], None]


class Transport(httpx.BaseTransport):
    """``run`` runs one request to the end of everything that it starts inline."""

    def __init__(self, gateway: Gateway, run: Run) -> None:
        self._gateway, self._run = gateway, run

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        self._run(self._gateway(_scope(request), receive, send))
        return httpx.Response(
            sent[0]["status"],
            headers=sent[0]["headers"],
            stream=httpx.ByteStream(b"".join(message.get("body", b"") for message in sent[1:])),
        )


def _scope(request: httpx.Request) -> dict[str, Any]:
    url = request.url
    return {
        "type": "http",
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 50_000),
        "server": (url.host, url.port or (443 if url.scheme == "https" else 80)),
    }


def client(gateway: Gateway, run: Run, base_url: str) -> httpx.Client:
    """A client for one API. It follows no redirects and knows no proxies of the environment's."""
    return httpx.Client(transport=Transport(gateway, run), base_url=base_url, trust_env=False)
