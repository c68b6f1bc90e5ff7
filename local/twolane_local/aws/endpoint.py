"""The AWS endpoint of this machine: passes each call to the service that it was signed for.

SQS and Lambda are answered here, other services can be mounted, and everything else goes to
``fallback`` (moto). The service is read from the SigV4 credential scope, else from
``X-Amz-Target``, the Host header or the path:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

The endpoint also serves container credentials:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, unquote

from twolane_local.aws.call import AwsRequest, AwsResponse
from twolane_local.aws.guard import DUMMY_CREDENTIALS
from twolane_local.aws.lambda_.api import CODE_LIMIT, LambdaApi
from twolane_local.aws.moto import faults
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.http import servers
from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.invocation import Invoker
    from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.model import FunctionSpec


PATH = "/2021-04-23/credentials"
_LASTS = timedelta(hours=6)


class ContainerCredentials:
    """Serves dummy credentials to callers with the token, which only functions have."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(24)

    def variables(self, endpoint_url: str) -> dict[str, str]:
        """The environment variables that lead a function's SDK here."""
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint_url}{PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._token,
        }

    def answer(self, headers: Mapping[str, str]) -> AwsResponse:
        """The credentials, or a 403."""
        given = headers.get("authorization", "").encode()
        if hmac.compare_digest(given, self._token.encode()):
            key, secret, token = DUMMY_CREDENTIALS.values()
            until = (datetime.now(UTC) + _LASTS).strftime("%Y-%m-%dT%H:%M:%SZ")
            status, body = 200, {
                "AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": until,
            }  # fmt: skip
        else:
            message = "the token is not the one of this emulator"
            status, body = 403, {"code": "AccessDenied", "message": message}
        return AwsResponse(status, json.dumps(body).encode(), {"content-type": "application/json"})


Result = TypeVar("Result")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Higher than the limits of all services answered here, so that each refuses with its own error.
BODY_LIMIT = 16 * 1024 * 1024
_TOO_LARGE = faults.Fault(
    413, "RequestEntityTooLarge", f"the request has more than {BODY_LIMIT} bytes"
)

_CREDENTIAL = re.compile(
    r"Credential=[^/]+/\d{8}/(?P<region>[^/]*)/(?P<service>[^/]+)/aws4_request"
)
_SQS_HOST = re.compile(r"(?:[^.]+\.)?(?:sqs|queue)\.")
_QUEUE_PATH = re.compile(r"(?:/queue/[a-z0-9-]+)?/\d{12}/[A-Za-z0-9_.-]+/?")


class AwsEndpoint:
    """The endpoint as an ASGI application.

    ``mounts`` maps a service's name in the credential scope (``scheduler``) to its implementation.
    """

    def __init__(
        self,
        queues: QueueService,
        invoker: Invoker,
        *,
        fallback: Asgi,
        functions: Mapping[str, FunctionSpec],
        asynchronous: AsyncInvocations,
        mounts: Mapping[str, AwsService] | None = None,
        operations: Iterable[object] = (),
        archive: Callable[[str], Awaitable[AwsResponse]] | None = None,
        credentials: ContainerCredentials | None = None,
    ) -> None:
        self._credentials = credentials
        self._fallback = fallback
        self._lambda = LambdaApi(
            invoker, functions, asynchronous, operations=operations, archive=archive
        )
        self._services: dict[str, AwsService] = {"sqs": SqsApi(queues), **(mounts or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        if path == PATH and self._credentials is not None:
            await _respond(send, self._credentials.answer(headers))
            return
        service, region = service_of(headers, path, query)
        answer = self._services.get(service)
        if service in ("lambda", "") and self._lambda.answers(scope["method"], path, query):
            answer = self._lambda
        if answer is None:
            await self._fallback(scope, receive, send)
            return
        try:
            body = await servers.read_body(
                receive, CODE_LIMIT if answer is self._lambda else BODY_LIMIT
            )
        except servers.ClientGoneError:
            return
        except servers.TooLargeError:
            if answer is self._lambda:
                refused = self._lambda.too_large(AwsRequest(scope["method"], path, query))
            else:
                call = faults.call_of(scope["method"], path, query, headers)
                status, given, said = faults.answer(call, _TOO_LARGE)
                refused = AwsResponse(status, said, dict(given[:1]))
            await _respond(send, refused)
            return
        request = AwsRequest(
            scope["method"], path, query, headers, body, service, region, str(uuid.uuid4()),
            account_of(headers, query),
        )  # fmt: skip
        if not polls(request):
            await _respond(send, await answer(request), receive)
        elif (response := await _unless_gone(answer(request), receive)) is not None:
            await _respond(send, response)


def polls(request: AwsRequest) -> bool:
    """True for a call that may wait for messages."""
    return request.headers.get("x-amz-target") == "AmazonSQS.ReceiveMessage" or (
        b"Action=ReceiveMessage" in request.body or "Action=ReceiveMessage" in request.query
    )


async def _unless_gone(answering: Coroutine[Any, Any, Result], receive: Receive) -> Result | None:
    """The result, or ``None`` if the client disconnects first.

    A worker that is restarted leaves its long poll behind. If the poll went on, it would receive
    the next message for nobody and hide it for a whole visibility timeout.
    """
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        return await answer if answer.done() else None
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def service_of(headers: Mapping[str, str], path: str, query: str) -> tuple[str, str]:
    """The service and region that a call is for; the service is empty if the call names none."""
    authorization = headers.get("authorization", "")
    if "X-Amz-Credential=" in query:
        authorization = f"Credential={parse_qs(query).get('X-Amz-Credential', [''])[0]}"
    if (signed := _CREDENTIAL.search(authorization)) is not None:
        return signed["service"].lower(), signed["region"]
    form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if (
        headers.get("x-amz-target", "").startswith("AmazonSQS.")
        or _SQS_HOST.match(headers.get("host", ""))
        or (_QUEUE_PATH.fullmatch(path) and (form or "Action=" in query))
    ):
        return "sqs", "us-east-1"
    return "", "us-east-1"


def account_of(headers: Mapping[str, str], query: str) -> str:
    """The account that signed a call: its access key, if that is an account's number.

    Other keys are of the stack's own account.
    """
    signed = headers.get("authorization") or unquote(query)
    key = signed.partition("Credential=")[2].partition("/")[0]
    return key if len(key) == 12 and key.isdecimal() and key.isascii() else ACCOUNT


async def _respond(send: Send, response: AwsResponse, receive: Receive | None = None) -> None:
    if response.endless and receive is not None:
        response = replace(response, endless=False)
        await _unless_gone(_respond(send, response), receive)
        return
    headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
    ]
    if response.stream is None:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if response.stream is not None:
        async for piece in response.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": response.body})
