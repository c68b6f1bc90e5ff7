"""The Lambda Invoke API, as boto3, the AWS CLI and `sam` users' scripts call it.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from twolane_local.invoke import ThrottledError
from twolane_local.wire import AwsRequest, AwsResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.async_invoke import AsyncInvocations
    from twolane_local.invoke import Invoker
    from twolane_local.mapping.registry import Mappings
    from twolane_local.model import FunctionSpec

#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SYNC_LIMIT, ASYNC_LIMIT = 6_291_456, 1_048_576

_INVOKE = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)/invocations/?")
_NAME = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)


class _RefusedError(Exception):
    """An error of the Lambda API, before the function is reached."""

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
        mappings: Mappings | None = None,
    ) -> None:
        """``functions`` is asked at each call, so it may change while we run."""
        self._invoker, self._functions = invoker, functions
        self._asynchronous, self._mappings = asynchronous, mappings

    @staticmethod
    def answers(method: str, path: str) -> bool:
        """Whether a call is one of ours; other Lambda calls are not."""
        return method == "POST" and _INVOKE.fullmatch(path) is not None

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        try:
            return await self._invoke(request)
        except _RefusedError as refused:
            body: dict[str, Any] = {"Type": "User", "Message": refused.message}
            if refused.reason is not None:
                body["Reason"] = refused.reason
            headers = {
                "content-type": "application/json",
                "x-amzn-errortype": refused.kind,
                "x-amzn-requestid": request.request_id,
            }
            return AwsResponse(refused.status, json.dumps(body).encode(), headers)

    async def _invoke(self, request: AwsRequest) -> AwsResponse:
        match = _INVOKE.fullmatch(request.path)
        qualifier = parse_qs(request.query).get("Qualifier", [None])[0]
        name = self._resolve(unquote(match["name"]) if match else "", qualifier)
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        if kind not in ("RequestResponse", "Event", "DryRun"):
            raise _RefusedError(
                400, "InvalidParameterValueException", f"Unsupported invocation type {kind}."
            )
        _check_payload(request.body, ASYNC_LIMIT if kind == "Event" else SYNC_LIMIT)
        headers = {"x-amzn-requestid": request.request_id}
        if kind == "DryRun":
            return AwsResponse(204, b"", headers)
        payload = request.body or b"{}"
        if kind == "Event":
            headers["x-amzn-requestid"] = self._asynchronous.submit(name, payload)
            return AwsResponse(202, b"", headers)
        return await self._now(name, payload, request)

    async def _now(self, name: str, payload: bytes, request: AwsRequest) -> AwsResponse:
        try:
            done = await self._invoker.invoke(name, payload, request_id=request.request_id)
        except ThrottledError:
            raise _RefusedError(
                429, "TooManyRequestsException", "Rate Exceeded.",
                "ReservedFunctionConcurrentInvocationLimitExceeded",
            ) from None  # fmt: skip
        headers = {
            "content-type": "application/json",
            "x-amz-executed-version": "$LATEST",
            "x-amzn-requestid": done.request_id,
        }
        if done.error is not None:
            headers["x-amz-function-error"] = done.error
        if request.headers.get("x-amz-log-type", "None") == "Tail":
            # The last 4 KB of the execution log.
            headers["x-amz-log-result"] = base64.b64encode(done.log_tail[-4096:]).decode()
        return AwsResponse(200, done.payload, headers)

    def _resolve(self, given: str, qualifier: str | None) -> str:
        """The function that a name, partial ARN or ARN means; only ``$LATEST`` exists here."""
        match = _NAME.fullmatch(given)
        if match is None:
            raise _RefusedError(
                400, "InvalidParameterValueException",
                f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy "
                "constraint: it must be a function's name, partial ARN or ARN.",
            )  # fmt: skip
        name, version = match["name"], match["qualifier"] or qualifier or "$LATEST"
        known = self._functions.get(name)
        if known is None or version != "$LATEST":
            arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
            where = arn if version == "$LATEST" else f"{arn}:{version}"
            raise _RefusedError(404, "ResourceNotFoundException", f"Function not found: {where}")
        return name


def _check_payload(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise _RefusedError(
            413, "RequestTooLargeException",
            f"{len(body)} byte payload is too large for the invocation type (limit {limit} bytes)",
        )  # fmt: skip
    if not body:
        return
    try:
        json.loads(body)
    except ValueError as error:
        raise _RefusedError(
            400, "InvalidRequestContentException",
            f"Could not parse request body into json: {error}",
        ) from None  # fmt: skip
