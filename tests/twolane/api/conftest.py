"""Real events, as AWS documents them, and handlers that are closed after each test."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from twolane import ApiHandler
from twolane.api.awake import Awake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Context:
    """What awslambdaric hands to a handler, as far as anything here reads it."""

    aws_request_id: str = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    function_name: str = "Api"
    remaining_ms: int = 30_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def api() -> Iterator[Callable[..., ApiHandler]]:
    """``api(app, **options)``: a handler that is closed when the test ends."""
    handlers: list[ApiHandler] = []

    def build(app: Any, **options: Any) -> ApiHandler:
        handlers.append(ApiHandler(app, environ=options.pop("environ", {}), **options))
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


@pytest.fixture
def held(api: Callable[..., ApiHandler]) -> Callable[..., Held]:
    """``held(app, **options)``: a handler whose environment an extension keeps awake."""
    return lambda app, **options: Held(api(app, **options))


class Held:
    """Stands in for the runtime and the extension, each where its thread is; see ``isolated`` for
    the real ones.
    """

    def __init__(self, handler: ApiHandler) -> None:
        self._handler = handler
        self._awake = Awake()
        self._awake.keep(SimpleNamespace(alive=True))
        handler._engine._awake = self._awake

    def __call__(self, event: dict[str, Any], context: Context) -> dict[str, Any]:
        return self._handler(event, context)

    def finish(self, context: Context) -> None:
        """The response is posted; the extension's thread does what is left."""
        self._awake.posted(context.aws_request_id)
        arguments = (context.aws_request_id, 30.0)
        extension = threading.Thread(target=self._awake.finish, args=arguments)
        extension.start()
        extension.join(30)
        assert not extension.is_alive()


@pytest.fixture
def http_event() -> Callable[..., dict[str, Any]]:
    """An HTTP API event, payload format 2.0.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """

    def build(method: str = "GET", path: str = "/", **fields: Any) -> dict[str, Any]:
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {
                "accept": "*/*",
                "content-type": "application/json",
                "host": "id.execute-api.us-east-1.amazonaws.com",
                "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e",
                "x-forwarded-for": "203.0.113.7",
                "x-forwarded-port": "443",
                "x-forwarded-proto": "https",
            },
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "id",
                "domainName": "id.execute-api.us-east-1.amazonaws.com",
                "domainPrefix": "id",
                "http": {
                    "method": method,
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.7",
                    "userAgent": "curl/8.5.0",
                },
                "requestId": "JKJaXmPLvHcESHA=",
                "routeKey": "$default",
                "stage": "$default",
                "time": "10/Mar/2020:05:16:23 +0000",
                "timeEpoch": 1583817383220,
            },
            "isBase64Encoded": False,
            **fields,
        }

    return build
