"""The Lambda API: invocations, event source mappings and the recursion config of functions.

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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from twolane_local.aws.call import AwsRequest, AwsResponse, trace_header
from twolane_local.aws.invocation import (
    LATEST,
    RecursiveInvocationError,
    StreamedInvocation,
    ThrottledError,
    executed_version,
)
from twolane_local.model import lineage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping

    from twolane_local.aws.event_source_mapping import EventSourceMapping, EventSourceMappings
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

_INVOKE = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)/invocations/?")
_STREAM = re.compile(r"/2021-11-15/functions/(?P<name>[^/]+)/response-streaming-invocations/?")
_MAPPINGS = re.compile(r"/2015-03-31/event-source-mappings(?:/(?P<uuid>[0-9a-f-]{36}))?/?")
_RECURSION = re.compile(r"/2024-08-31/functions/(?P<name>[^/]+)/recursion-config/?")
_NAME = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)


class _ApiError(Exception):
    """The Lambda API refuses a request, before the function runs."""

    def __init__(self, status: int, kind: str, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.reason = status, kind, message, reason


class LambdaApi:
    """Answers Lambda calls; an ``AwsService``."""

    def __init__(
        self,
        invoker: Invoker,
        functions: Mapping[str, FunctionSpec],
        asynchronous: AsyncInvocations,
        mappings: EventSourceMappings | None = None,
        recursion: MutableMapping[str, str] | None = None,
    ) -> None:
        """``functions`` is read at each call, so it may change; ``recursion`` stores the settings
        of PutFunctionRecursionConfig by function.
        """
        self._recursion: MutableMapping[str, str] = {} if recursion is None else recursion
        self._invoker, self._functions = invoker, functions
        self._asynchronous, self._mappings = asynchronous, mappings

    @staticmethod
    def answers(method: str, path: str) -> bool:
        """True for the calls that this class implements."""
        if _MAPPINGS.fullmatch(path) or _RECURSION.fullmatch(path):
            return method in ("GET", "PUT")
        return method == "POST" and bool(_INVOKE.fullmatch(path) or _STREAM.fullmatch(path))

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        try:
            if (match := _MAPPINGS.fullmatch(request.path)) is not None:
                return self._event_source_mappings(match["uuid"], request)
            if (recursion := _RECURSION.fullmatch(request.path)) is not None:
                return self._recursion_config(recursion["name"], request)
            if (streamed := _STREAM.fullmatch(request.path)) is not None:
                return await self._invoke_streaming(streamed["name"], request)
            match = _INVOKE.fullmatch(request.path)
            return await self._invoke(match["name"] if match else "", request)
        except _ApiError as refused:
            # The API's model capitalises the key of this error only.
            key = "Message" if refused.kind == "ResourceNotFoundException" else "message"
            body: dict[str, Any] = {"Type": "User", key: refused.message}
            if refused.reason is not None:
                body["Reason"] = refused.reason
            headers = {
                "content-type": "application/json",
                "x-amzn-errortype": refused.kind,
                "x-amzn-requestid": request.request_id,
            }
            return AwsResponse(refused.status, json.dumps(body).encode(), headers)

    def _target(self, given: str, request: AwsRequest, *kinds: str) -> tuple[str, str]:
        """The function to invoke, and the type of the invocation."""
        qualifier = parse_qs(request.query).get("Qualifier", [None])[0]
        name = self._resolve(unquote(given), qualifier)
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        if kind not in kinds:
            raise _invalid(f"Unsupported invocation type {kind}.")
        return name, kind

    async def _invoke(self, given: str, request: AwsRequest) -> AwsResponse:
        name, kind = self._target(given, request, "RequestResponse", "Event", "DryRun")
        _check_payload(request.body, ASYNC_LIMIT if kind == "Event" else SYNC_LIMIT)
        headers = {"x-amzn-requestid": request.request_id}
        if kind == "DryRun":
            return AwsResponse(204, b"", headers)
        payload = request.body or b"{}"
        context = _client_context(request.headers.get("x-amz-client-context", ""))
        if kind == "Event":
            headers["x-amzn-requestid"] = self._asynchronous.submit(
                name, payload, client_context=context,
                trace_header=trace_header(request.headers) or "",
            )  # fmt: skip
            return AwsResponse(202, b"", headers)
        return await self._invoke_synchronously(name, payload, context, request)

    async def _invoke_streaming(self, given: str, request: AwsRequest) -> AwsResponse:
        """https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html"""
        name, kind = self._target(given, request, "RequestResponse", "DryRun")
        _check_payload(request.body, SYNC_LIMIT)
        context = _client_context(request.headers.get("x-amz-client-context", ""))
        headers = {
            "content-type": "application/vnd.amazon.eventstream",
            "x-amz-executed-version": _executed(name),
            "x-amzn-requestid": request.request_id,
        }
        if kind == "DryRun":
            return AwsResponse(204, b"", headers)
        call = StreamedInvocation(
            self._invoker, name, request.body or b"{}", request_id=request.request_id,
            client_context=context, trace_headers=_trace_headers(request),
        )  # fmt: skip
        tail = request.headers.get("x-amz-log-type", "None") == "Tail"
        with _api_errors(name):
            await call.begin()
        return AwsResponse(200, b"", headers, response_events(call, with_log=tail))

    async def _invoke_synchronously(
        self, name: str, payload: bytes, context: str, request: AwsRequest
    ) -> AwsResponse:
        with _api_errors(name):
            done = await self._invoker.invoke(
                name, payload, request_id=request.request_id, client_context=context,
                trace_headers=_trace_headers(request),
            )  # fmt: skip
        headers = {
            "content-type": "application/json",
            "x-amz-executed-version": _executed(name),
            "x-amzn-requestid": done.request_id,
        }
        if done.error is not None:
            headers["x-amz-function-error"] = done.error
        if request.headers.get("x-amz-log-type", "None") == "Tail":
            # The last 4 KB of the execution log.
            headers["x-amz-log-result"] = base64.b64encode(done.log_tail()[-4096:]).decode()
        return AwsResponse(200, done.payload, headers)

    def _recursion_config(self, given: str, request: AwsRequest) -> AwsResponse:
        """https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionRecursionConfig.html"""
        name = self._resolve(unquote(given), None).partition(":")[0]
        if request.method == "PUT":
            _check_payload(request.body, SYNC_LIMIT)
            body = json.loads(request.body or b"{}")
            wanted = body.get("RecursiveLoop") if isinstance(body, dict) else None
            if wanted not in (lineage.ALLOW, lineage.TERMINATE):
                raise _invalid(f"RecursiveLoop must be Allow or Terminate, not {wanted!r}.")
            self._recursion[name] = str(wanted)
        current = self._recursion.get(name, self._functions[name].recursive_loop)
        return _json(200, {"RecursiveLoop": current}, request)

    def _event_source_mappings(self, identity: str | None, request: AwsRequest) -> AwsResponse:
        """List mappings, get one, or enable and disable it; all else is set in the template.

        https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html
        """
        known = dict(self._mappings) if self._mappings is not None else {}
        if identity is None:
            query = {key: values[0] for key, values in parse_qs(request.query).items()}
            described = [describe_mapping(one, mapping) for one, mapping in known.items()]
            found = [one for one in described if _matches_query(one, query)]
            return _json(200, {"EventSourceMappings": found}, request)
        mapping = known.get(identity)
        if mapping is None:
            raise _ApiError(
                404, "ResourceNotFoundException",
                "The resource you requested does not exist.",
            )  # fmt: skip
        if request.method == "PUT":
            _check_payload(request.body, SYNC_LIMIT)
            changes = json.loads(request.body or b"{}")
            if not isinstance(changes, dict) or set(changes) - {"Enabled", "FunctionName"}:
                raise _invalid("Here only Enabled can be changed; change the rest in the template.")
            mapping.enabled = bool(changes.get("Enabled", mapping.enabled))
        status = 200 if request.method == "GET" else 202
        return _json(status, describe_mapping(identity, mapping), request)

    def _resolve(self, given: str, qualifier: str | None) -> str:
        """``name`` or ``name:qualifier`` of a function, from a name, partial ARN or ARN."""
        match = _NAME.fullmatch(given)
        if match is None:
            raise _invalid(
                f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy "
                "constraint: it must be a function's name, partial ARN or ARN."
            )
        name, version = match["name"], match["qualifier"] or qualifier or LATEST
        known = self._functions.get(name)
        if known is None or version not in (LATEST, *known.qualifiers):
            raise _not_found(name if version == LATEST else f"{name}:{version}")
        return name if version == LATEST else f"{name}:{version}"


def _invalid(message: str, kind: str = "InvalidParameterValueException") -> _ApiError:
    return _ApiError(400, kind, message)


def _executed(target: str) -> str:
    return executed_version(target.partition(":")[2])


def _trace_headers(request: AwsRequest) -> tuple[str, ...]:
    header = trace_header(request.headers)
    return (header,) if header else ()


@contextmanager
def _api_errors(name: str) -> Iterator[None]:
    """Raise the API's errors for those of ``Invoker``."""
    try:
        yield
    except ThrottledError:
        raise _ApiError(
            429, "TooManyRequestsException", "Rate Exceeded.",
            "ReservedFunctionConcurrentInvocationLimitExceeded",
        ) from None  # fmt: skip
    except RecursiveInvocationError as error:
        raise _ApiError(400, "RecursiveInvocationException", str(error)) from None
    except KeyError:
        raise _not_found(name) from None


def describe_mapping(identity: str, mapping: EventSourceMapping) -> dict[str, Any]:
    """A mapping as the API returns it.

    https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
    """
    spec = mapping.spec
    shown: dict[str, Any] = {
        "UUID": identity,
        "EventSourceArn": spec.queue_arn,
        "FunctionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{mapping.target}",
        "BatchSize": spec.batch_size,
        "MaximumBatchingWindowInSeconds": int(spec.batching_window_s),
        "State": "Enabled" if mapping.enabled else "Disabled",
        "StateTransitionReason": "USER_INITIATED",
        "FunctionResponseTypes": (
            ["ReportBatchItemFailures"] if spec.report_batch_item_failures else []
        ),
    }
    if spec.maximum_concurrency is not None:
        shown["ScalingConfig"] = {"MaximumConcurrency": spec.maximum_concurrency}
    if spec.minimum_pollers is not None or spec.maximum_pollers is not None:
        pollers = {"MinimumPollers": spec.minimum_pollers, "MaximumPollers": spec.maximum_pollers}
        shown["ProvisionedPollerConfig"] = {
            name: number for name, number in pollers.items() if number is not None
        }
    if spec.filter_patterns:
        filters = [{"Pattern": json.dumps(pattern)} for pattern in spec.filter_patterns]
        shown["FilterCriteria"] = {"Filters": filters}
    return shown


def _matches_query(shown: dict[str, Any], query: dict[str, str]) -> bool:
    function = query.get("FunctionName", "")
    source = query.get("EventSourceArn", shown["EventSourceArn"])
    same_function = not function or shown["FunctionArn"].endswith(f":{function.rpartition(':')[2]}")
    return same_function and bool(source == shown["EventSourceArn"])


def _json(status: int, body: dict[str, Any], request: AwsRequest) -> AwsResponse:
    headers = {"content-type": "application/json", "x-amzn-requestid": request.request_id}
    return AwsResponse(status, json.dumps(body).encode(), headers)


def _not_found(name: str) -> _ApiError:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    return _ApiError(404, "ResourceNotFoundException", f"Function not found: {arn}")


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
        raise _ApiError(
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
