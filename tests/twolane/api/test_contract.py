"""The demonstration application keeps what its OpenAPI document promises, through the handler."""

from __future__ import annotations

import base64
import importlib
import sys
import uuid
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Gateway:
    """An ASGI application that hands each request to a Lambda handler, as an HTTP API does."""

    def __init__(self, handler: Callable[..., dict[str, Any]], context: Any) -> None:
        self._handler = handler
        self._context = context

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        event = self._event(scope, body)
        # The handler drives a loop of its own, in a thread without one.
        answer = await anyio.to_thread.run_sync(self._handler, event, self._context)
        content = answer["body"]
        content = base64.b64decode(content) if answer["isBase64Encoded"] else content.encode()
        headers = [(k.encode(), v.encode()) for k, v in answer.get("headers", {}).items()]
        start = {"type": "http.response.start", "status": answer["statusCode"], "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": content})

    @staticmethod
    def _event(scope: Any, body: bytes) -> dict[str, Any]:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
        path = scope["path"]
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": scope["query_string"].decode("latin-1"),
            "headers": headers,
            "requestContext": {
                "domainName": "id.execute-api.us-east-1.amazonaws.com",
                "http": {
                    "method": scope["method"],
                    "path": path.replace("%", "%25"),
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.7",
                },
                "stage": "$default",
            },
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }


# An address may have the format and still be refused: the domain `x.test` is nobody's.
ADDRESSES = st.from_regex(r"[a-z]{1,10}@[a-z]{3,10}\.(com|org)", fullmatch=True)
schemathesis.openapi.format("email", ADDRESSES)


@pytest.fixture(scope="module")
def document(redis_server: str) -> Iterator[Any]:
    """The application's OpenAPI document, with the application behind it on a real Redis."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
            patch.delitem(sys.modules, name)
        patch.setenv("REDIS_URL", f"{redis_server}/9")
        for name in ("TASK_QUEUE_URL", "RESULT_BACKEND", "API_KEY_SHA256", "MAILER"):
            patch.delenv(name, raising=False)
        module = importlib.import_module("app.api")

        class Context:
            aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"

        yield schemathesis.openapi.from_asgi("/openapi.json", Gateway(module.handler, Context()))
        module.handler.close()
        module.celery.close()
        for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
            del sys.modules[name]


@pytest.mark.slow
# Of the client that Schemathesis calls the application with.
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_keeps_its_promise(document, mode) -> None:
    """With what the document allows, and with what it does not."""
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) > 5
    for operation in operations:
        _check(operation, mode)


def _inapplicable(case: Any) -> list[Any]:
    # What Schemathesis makes of a wrong text/csv, `true` for one, is a text all the same.
    return [negative_data_rejection] if case.media_type == "text/csv" else []


def _check(operation: Any, mode: GenerationMode) -> None:
    answered: list[int] = []

    @hypothesis.settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and "idempotency-key" in (case.headers or {}):
            # The same key for another body is refused, as it has to be.
            case.headers["idempotency-key"] = str(uuid.uuid4())
        response = case.call_and_validate(excluded_checks=_inapplicable(case))
        answered.append(response.status_code)
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]

    try:
        call()
    except hypothesis.errors.Unsatisfiable:
        # An operation without parameters has no wrong ones.
        assert mode is GenerationMode.NEGATIVE
    else:
        assert answered
