"""The Lambda API: passes each call to what answers it, and answers invocations itself.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
A streamed response is an event stream; one that the runtime does not stream becomes one chunk:
https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
The encoding: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from twolane_local.aws.call import AwsRequest, AwsResponse, trace_header
from twolane_local.aws.invocation import (
    RecursiveInvocationError,
    StreamedInvocation,
    TenancyError,
    ThrottledError,
    tenancy,
)
from twolane_local.aws.lambda_.resources import target_of_call
from twolane_local.aws.rest_json import Call, Members, RefusedError, RestJsonService, error_response
from twolane_local.journal.files import PersistenceError
from twolane_local.model import LATEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from twolane_local.aws.invocation import Invoker
    from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
    from twolane_local.model import FunctionSpec


_STRING = 7


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Encode a message: lengths, their checksum, string headers, payload, checksum of it all."""
    head = b"".join(
        struct.pack("!B", len(name.encode()))
        + name.encode()
        + struct.pack("!BH", _STRING, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    prelude = lengths + struct.pack("!I", zlib.crc32(lengths))
    whole = prelude + head + payload
    return whole + struct.pack("!I", zlib.crc32(whole))


def payload_chunk(data: bytes) -> bytes:
    """The event with a piece of the response."""
    return message(
        {
            ":message-type": "event",
            ":event-type": "PayloadChunk",
            ":content-type": "application/octet-stream",
        },
        data,
    )


def invoke_complete(error: bytes | None, log_result: str = "") -> bytes:
    """The last event; ``error`` is the error object of a failed function, ``log_result`` base64."""
    value: dict[str, Any] = {}
    if error is not None:
        try:
            kind = json.loads(error).get("errorType", "Unhandled")
        except (ValueError, AttributeError):
            kind = "Unhandled"
        value = {"ErrorCode": kind, "ErrorDetails": error.decode("utf-8", "replace")}
    if log_result:
        value["LogResult"] = log_result
    return message(
        {
            ":message-type": "event",
            ":event-type": "InvokeComplete",
            ":content-type": "application/json",
        },
        json.dumps(value).encode(),
    )


async def response_events(call: StreamedInvocation, *, with_log: bool) -> AsyncIterator[bytes]:
    """The encoded events of a call that has begun, as the function writes them."""
    if call.stream.opened.is_set():
        async for piece in call.stream:
            yield payload_chunk(piece)
    outcome = await call.running
    if outcome.error is None and outcome.payload:
        yield payload_chunk(outcome.payload)
    log = base64.b64encode(outcome.log_tail()).decode() if with_log else ""
    yield invoke_complete(outcome.payload if outcome.error is not None else None, log)


#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SYNC_LIMIT, ASYNC_LIMIT, CONTEXT_LIMIT = 6_291_456, 1_048_576, 3_583

#: The limit of a call with an archive in it, which is base64 there.
CODE_LIMIT = 70_167_211
#: The path of an archive on the endpoint, which GetFunction's Location leads to.
CODE_PATH = re.compile(r"/2015-03-31/code/(?P<digest>[0-9a-f]{64})\.zip")
#: The service checks it later, with another error.
_UNCHECKED = frozenset({
    ("CreateFunction", "Runtime"), ("UpdateFunctionConfiguration", "Runtime"),
})  # fmt: skip

_INVOKE = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)/invocations/?")
_STREAM = re.compile(r"/2021-11-15/functions/(?P<name>[^/]+)/response-streaming-invocations/?")
_DATED = re.compile(r"/20\d\d-\d\d-\d\d/")
_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
_TENANT, _TENANT_LIMIT = re.compile(r"[a-zA-Z0-9\._:\/=+\-@ ]+"), 256
#: A method of an object in ``operations``.
Operation = Callable[[Call], Coroutine[Any, Any, "Members | AwsResponse"]]


class LambdaApi:
    """Answers Lambda calls; an ``AwsService``.

    Invocations are its own. ``operations`` are objects that answer the other calls: a method named
    as in boto3 (``create_function``) takes the ``Call`` and returns the members of its response.
    """

    def __init__(
        self,
        invoker: Invoker,
        functions: Mapping[str, FunctionSpec],
        asynchronous: AsyncInvocations,
        *,
        operations: Iterable[object] = (),
        archive: Callable[[str], Awaitable[AwsResponse]] | None = None,
    ) -> None:
        """``functions`` is read at each call, so it may change. ``archive`` answers the download of
        code.
        """
        self._invoker, self._functions = invoker, functions
        self._asynchronous = asynchronous
        self._archive = archive
        self._model = RestJsonService("lambda", unchecked=_UNCHECKED)
        self._operations = tuple(operations)

    def answers(self, method: str, path: str, query: str = "") -> bool:
        """True for the calls that this class implements."""
        if method == "POST" and (_INVOKE.fullmatch(path) or _STREAM.fullmatch(path)):
            return True
        if method == "GET" and self._archive is not None and CODE_PATH.fullmatch(path):
            return True
        if not self._operations or not _DATED.match(path):
            return False
        return self._model.operation(AwsRequest(method, path, query)) is not None

    def _operation(self, name: str) -> Operation | None:
        method = _SNAKE.sub("_", name).lower()
        for each in self._operations:
            if (found := getattr(each, method, None)) is not None:
                operation: Operation = found
                return operation
        return None

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        try:
            if (streamed := _STREAM.fullmatch(request.path)) is not None:
                return await self._invoke_streaming(streamed["name"], request)
            if (match := _INVOKE.fullmatch(request.path)) is not None:
                return await self._invoke(match["name"], request)
            return await self._call(request)
        except RefusedError as refused:
            return error_response(refused, request)
        except PersistenceError as error:
            return error_response(RefusedError(500, "ServiceException", str(error)), request)

    async def _call(self, request: AwsRequest) -> AwsResponse:
        if self._archive is not None and (found := CODE_PATH.fullmatch(request.path)):
            return await self._archive(found["digest"])
        call = self._model.read(request)
        if (operation := self._operation(call.operation)) is None:
            raise RefusedError(
                501, "NotImplementedException", f"twolane does not play {call.operation}"
            )
        members = await operation(call)
        if isinstance(members, AwsResponse):
            return members
        return self._model.response(call, members)

    def too_large(self, request: AwsRequest) -> AwsResponse:
        """The response to a body above ``CODE_LIMIT``."""
        name = self._model.operation(request)
        message = f"Request must be smaller than {CODE_LIMIT} bytes for the {name} operation"
        return error_response(RefusedError(413, "RequestEntityTooLargeException", message), request)

    def _target(self, given: str, request: AwsRequest, *kinds: str) -> tuple[str, str]:
        """The function to invoke, and the type of the invocation."""
        qualifier = parse_qs(request.query).get("Qualifier", [None])[0]
        name = self._resolve(unquote(given), qualifier, request)
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        if kind not in kinds:
            raise _invalid(f"Unsupported invocation type {kind}.")
        return name, kind

    def _tenant(self, name: str, request: AwsRequest) -> str:
        """The tenant of an invocation, empty for a function that isolates none.

        https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-invoke.html
        """
        tenant = request.headers.get("x-amz-tenant-id")
        isolates = self._functions[name.partition(":")[0]].tenant_isolation
        if tenant is not None and not (_TENANT.fullmatch(tenant) and len(tenant) <= _TENANT_LIMIT):
            rule = (
                f"have length less than or equal to {_TENANT_LIMIT}"
                if _TENANT.fullmatch(tenant)
                else f"satisfy regular expression pattern: {_TENANT.pattern}"
            )
            raise RefusedError(
                400, "ValidationException",
                f"1 validation error detected: Value '{tenant}' at 'tenantId' failed to satisfy "
                f"constraint: Member must {rule}",
            )  # fmt: skip
        if isolates is not bool(tenant):
            raise _invalid(str(TenancyError(isolates=isolates)))
        return tenant or ""

    async def _invoke(self, given: str, request: AwsRequest) -> AwsResponse:
        name, kind = self._target(given, request, "RequestResponse", "Event", "DryRun")
        _check_payload(request.body, ASYNC_LIMIT if kind == "Event" else SYNC_LIMIT)
        tenant = self._tenant(name, request)
        headers = {"x-amzn-requestid": request.request_id}
        if kind == "DryRun":
            return AwsResponse(204, b"", headers)
        payload = request.body or b"{}"
        context = _client_context(request.headers.get("x-amz-client-context", ""))
        if kind == "Event":
            headers["x-amzn-requestid"] = self._asynchronous.submit(
                name, payload, client_context=context,
                trace_header=trace_header(request.headers) or "", **tenancy(tenant),
            )  # fmt: skip
            return AwsResponse(202, b"", headers)
        return await self._invoke_synchronously(name, payload, context, tenant, request)

    async def _invoke_streaming(self, given: str, request: AwsRequest) -> AwsResponse:
        """https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html"""
        name, kind = self._target(given, request, "RequestResponse", "DryRun")
        _check_payload(request.body, SYNC_LIMIT)
        tenant = self._tenant(name, request)
        context = _client_context(request.headers.get("x-amz-client-context", ""))
        headers = {
            "content-type": "application/vnd.amazon.eventstream",
            "x-amzn-requestid": request.request_id,
        }
        if kind == "DryRun":
            return AwsResponse(204, b"", headers)
        call = StreamedInvocation(
            self._invoker, name, request.body or b"{}", request_id=request.request_id,
            client_context=context, trace_headers=_trace_headers(request), tenant_id=tenant,
        )  # fmt: skip
        tail = request.headers.get("x-amz-log-type", "None") == "Tail"
        with _api_errors(name):
            await call.begin()
        headers["x-amz-executed-version"] = call.stream.version
        return AwsResponse(200, b"", headers, response_events(call, with_log=tail))

    async def _invoke_synchronously(
        self, name: str, payload: bytes, context: str, tenant: str, request: AwsRequest
    ) -> AwsResponse:
        with _api_errors(name):
            done = await self._invoker.invoke(
                name, payload, request_id=request.request_id, client_context=context,
                trace_headers=_trace_headers(request), **tenancy(tenant),
            )  # fmt: skip
        headers = {
            "content-type": "application/json",
            "x-amz-executed-version": done.version,
            "x-amzn-requestid": done.request_id,
        }
        if done.error is not None:
            headers["x-amz-function-error"] = done.error
        if request.headers.get("x-amz-log-type", "None") == "Tail":
            # The last 4 KB of the execution log.
            headers["x-amz-log-result"] = base64.b64encode(done.log_tail()[-4096:]).decode()
        return AwsResponse(200, done.payload, headers)

    def _resolve(self, given: str, qualifier: str | None, request: AwsRequest) -> str:
        """``name`` or ``name:qualifier`` of a function, from a name, partial ARN or ARN."""
        name, _, version = given.partition(":")
        if name not in self._functions or version or qualifier:
            named = replace(request, body=b"", headers={})
            target = target_of_call(self._model.read(named))
            name, version = target.name, target.qualifier
        known = self._functions.get(name)
        if known is None or version not in ("", LATEST, *known.qualifiers):
            raise _not_found(name if version in ("", LATEST) else f"{name}:{version}")
        return name if version in ("", LATEST) else f"{name}:{version}"


def _invalid(message: str, kind: str = "InvalidParameterValueException") -> RefusedError:
    return RefusedError(400, kind, message)


def _trace_headers(request: AwsRequest) -> tuple[str, ...]:
    header = trace_header(request.headers)
    return (header,) if header else ()


@contextmanager
def _api_errors(name: str) -> Iterator[None]:
    """Raise the API's errors for those of ``Invoker``."""
    try:
        yield
    except ThrottledError:
        raise RefusedError(
            429, "TooManyRequestsException", "Rate Exceeded.",
            more={"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"},
        ) from None  # fmt: skip
    except RecursiveInvocationError as error:
        raise RefusedError(400, "RecursiveInvocationException", str(error)) from None
    except KeyError:
        raise _not_found(name) from None


def _not_found(name: str) -> RefusedError:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    return RefusedError(404, "ResourceNotFoundException", f"Function not found: {arn}")


def _client_context(header: str) -> str:
    """The client context as JSON text; the header has at most 3,583 bytes of base64."""
    if not header:
        return ""
    try:
        text = base64.b64decode(header, validate=True).decode()
        if len(header) > CONTEXT_LIMIT or not isinstance(json.loads(text), dict):
            raise ValueError(header)
    except (ValueError, RecursionError):
        message = "Client context must be a valid Base64-encoded JSON object."
        raise _invalid(message, "InvalidRequestContentException") from None
    return text


def _check_payload(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise RefusedError(
            413, "RequestTooLargeException",
            f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
        )  # fmt: skip
    if not body:
        return
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: {error}"
        raise _invalid(message, "InvalidRequestContentException") from None
