"""The interface between sources of events and functions: ``invoke(function, event)``."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from twolane_local.errors import LocalError
from twolane_local.model import LATEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from twolane_local.model import FunctionSpec


class UnknownFunctionError(KeyError):
    """There is no such function, version or alias."""


def resolve(functions: Mapping[str, FunctionSpec], target: str) -> tuple[FunctionSpec, str]:
    """The version of ``name`` or ``name:qualifier`` that runs, and its qualifier or ``LATEST``.

    An alias with weights leads to one of its versions by chance. Raises ``UnknownFunctionError`` if
    there is no such function, version or alias.
    """
    name, _, qualifier = target.partition(":")
    spec = functions.get(name)
    if spec is None:
        raise UnknownFunctionError(target)
    if qualifier in ("", LATEST):
        return spec, LATEST
    version = qualifier
    if weights := spec.aliases.get(qualifier):
        version = random.choices(tuple(weights), tuple(weights.values()))[0]  # noqa: S311 (no secret)
    if version in spec.versions:
        return spec.versions[version], qualifier
    if qualifier not in spec.qualifiers:
        raise UnknownFunctionError(target)
    return spec, qualifier


def executed_version(spec: FunctionSpec, qualifier: str) -> str:
    """The version that runs for a qualifier of ``resolve``.

    A template's versions and aliases lead to version 1, the current code.
    """
    if spec.version != LATEST or qualifier == LATEST or LATEST in spec.aliases.get(qualifier, ()):
        return spec.version
    return "1"


def target_of(arn: str) -> str:
    """``name`` or ``name:qualifier`` from a function's ARN; a bare name is returned as it is."""
    parts = arn.split(":")
    return ":".join(parts[6:8]) if len(parts) > 6 else arn


def service_in_arn(arn: str) -> str:
    """The service in an ARN; empty for other text, such as a value that is not resolved yet."""
    return (arn.split(":", 3) + [""] * 3)[2]


@dataclass(frozen=True, slots=True)
class Invocation:
    """The outcome of one invocation.

    ``payload`` is the function's result as JSON bytes or, with ``error`` set, Lambda's error object
    (``errorMessage``, ``errorType``, ``stackTrace``). ``error`` is the value of
    ``X-Amz-Function-Error``, ``Unhandled`` or ``Handled``:
    https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html

    ``log_tail`` returns the last 4 KB of its log; a function, as few callers need it.
    """

    request_id: str
    payload: bytes
    error: str | None = None
    log_tail: Callable[[], bytes] = bytes
    cold: bool = False
    duration_ms: float = 0.0
    #: The version that ran, ``1`` for the current code by a version or alias.
    version: str = LATEST


class ThrottledError(Exception):
    """The function has no free concurrency (``TooManyRequestsException``, 429 on AWS)."""


class TenancyError(LocalError):
    """The invocation names no tenant, and the function isolates tenants; or the other way round
    (``InvalidParameterValueException``, 400 on AWS).

    https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-invoke.html
    """

    def __init__(self, *, isolates: bool) -> None:
        super().__init__(
            "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in "
            "your request and try again."
            if isolates
            else "The invoked function is not enabled with tenancy configuration. Remove the "
            "tenant ID from your request and try again."
        )


class RecursiveInvocationError(Exception):
    """A chain of requests has invoked the function too often, and Lambda stops it
    (``RecursiveInvocationException``, 400 on AWS).

    ``headers`` are the trace headers of the stopped chains.
    """

    def __init__(self, function: str, headers: frozenset[str]) -> None:
        super().__init__(
            "Lambda has detected your function being invoked in a recursive loop with other AWS "
            f"resources and stopped your function's invocation: {function}"
        )
        self.headers = headers


@runtime_checkable
class Streamer(Protocol):
    """Runs functions by name and passes on streamed responses piece by piece."""

    async def invoke_streaming(
        self,
        function: str,
        event: bytes,
        stream: ResponseStream,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
        tenant_id: str = "",
    ) -> Invocation:
        """Like ``Invoker.invoke``; a streamed response is not in the result."""


class Invoker(Protocol):
    """Runs functions by ``name`` or ``name:qualifier``."""

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
        tenant_id: str = "",
    ) -> Invocation:
        """Run one invocation to its response, in a free or new execution environment.

        ``client_context`` is the caller's, as JSON text; ``trace_headers`` are the X-Ray headers
        of the request or of each message that causes the invocation; ``tenant_id`` is for a
        function that isolates tenants.

        Raises ``ThrottledError`` if reserved concurrency is used up, ``KeyError`` for an unknown
        function, ``RecursiveInvocationError`` if a chain of requests has invoked the function too
        often, ``TenancyError`` for a tenant that is missing or does not belong there. A function's
        own error is a result, not an exception.
        """


def tenancy(tenant_id: str) -> dict[str, str]:
    """The argument ``tenant_id`` of an invoker, which few invocations have."""
    return {"tenant_id": tenant_id} if tenant_id else {}


#: The most of a streamed response: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_STREAM = 200 * 1024 * 1024
#: The sender pauses when more than ``_HIGH`` bytes wait for a slow caller, until ``_LOW`` are left.
_HIGH, _LOW = 1 << 20, 1 << 18


class Flow(Protocol):
    """Slows a sender down; an asyncio transport is one."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class ResponseStream:
    """A response on its way from an environment, which writes, to a caller, which iterates."""

    def __init__(self) -> None:
        self.content_type = ""
        #: The version that runs, as in ``Invocation``.
        self.version = LATEST
        #: The error object of an incomplete response.
        self.error: bytes | None = None
        self._flow: Flow | None = None
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._changed = asyncio.Event()
        self.opened = asyncio.Event()

    def open(self, content_type: str, flow: Flow) -> None:
        """Begin the response; ``flow`` is paused while the caller is slow."""
        self.content_type = content_type
        self._flow = flow
        self.opened.set()

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > _HIGH and not self._paused and self._flow is not None:
            self._paused = True
            self._flow.pause_reading()
        self._changed.set()

    def end(self, error: bytes | None) -> None:
        """End the response; with an error it is incomplete."""
        if not self._ended:
            self._ended = True
            self.error = error
            self._flow = None
            self._changed.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._paused and self._waiting < _LOW:
                    self._paused = False
                    if self._flow is not None:
                        self._flow.resume_reading()
                yield piece
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()


class StreamedInvocation:
    """An invocation whose response is streamed if the runtime and the invoker can do so.

    ``running`` resolves to the outcome; without a stream, that holds the whole response.
    """

    def __init__(
        self,
        invoker: Invoker,
        function: str,
        event: bytes,
        *,
        request_id: str,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
        tenant_id: str = "",
    ) -> None:
        self.stream = ResponseStream()
        options: dict[str, Any] = {
            "request_id": request_id, "client_context": client_context,
            "trace_headers": trace_headers, **tenancy(tenant_id),
        }  # fmt: skip
        call: Coroutine[Any, Any, Invocation]
        if isinstance(invoker, Streamer):
            call = invoker.invoke_streaming(function, event, self.stream, **options)
        else:
            call = invoker.invoke(function, event, **options)
        self.running = asyncio.ensure_future(call)

    async def begin(self) -> bool:
        """Wait for the beginning of the response; returns True if it is streamed.

        Raises the errors of ``Invoker.invoke``.
        """
        opened = asyncio.ensure_future(self.stream.opened.wait())
        try:
            await asyncio.wait((opened, self.running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if self.running.done():
            self.running.result()
        return self.stream.opened.is_set()
