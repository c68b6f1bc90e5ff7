"""The one seam of the emulator: every source of events ends in ``invoke(function, event)``."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from twolane_local.model import FunctionSpec


#: What has no qualifier is this.
LATEST = "$LATEST"


def resolve(functions: Mapping[str, FunctionSpec], target: str) -> tuple[FunctionSpec, str]:
    """The function of ``name`` or ``name:qualifier``, and its version or alias, else ``LATEST``.

    Raises ``KeyError`` where there is no such function, version or alias.
    """
    name, _, qualifier = target.partition(":")
    spec = functions[name]
    if qualifier not in ("", LATEST, *spec.qualifiers):
        raise KeyError(target)
    return spec, qualifier or LATEST


def executed_version(qualifier: str) -> str:
    """What runs for a version or alias: there is one version, of what the function is now."""
    return LATEST if qualifier in {"", LATEST} else "1"


def target_of(arn: str) -> str:
    """The function that an ARN names, with its version or alias; a bare name is its own."""
    parts = arn.split(":")
    return ":".join(parts[6:8]) if len(parts) > 6 else arn


def service_of(arn: str) -> str:
    """The service in an ARN; nothing where it is none, as while its value is still open."""
    return (arn.split(":", 3) + [""] * 3)[2]


@dataclass(frozen=True, slots=True)
class Invocation:
    """How one invocation ended.

    ``payload`` is what the function returned, as JSON bytes, or, with ``error`` set, the error
    object as Lambda shapes it (``errorMessage``, ``errorType``, ``stackTrace``). ``error`` is
    ``Unhandled`` or ``Handled``, the value of ``X-Amz-Function-Error``:
    https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html

    ``log_tail`` makes the last 4 KB of its log, which few callers ask for.
    """

    request_id: str
    payload: bytes
    error: str | None = None
    log_tail: Callable[[], bytes] = bytes
    cold: bool = False
    duration_ms: float = 0.0


class ThrottledError(Exception):
    """The function has no free concurrency (``TooManyRequestsException``, 429 on AWS)."""


class RecursiveInvocationError(Exception):
    """Lambda stops a chain of requests that has invoked the function too often
    (``RecursiveInvocationException``, 400 on AWS).

    ``headers`` are the trace headers of the chains that are stopped.
    """

    def __init__(self, function: str, headers: frozenset[str]) -> None:
        super().__init__(
            "Lambda has detected your function being invoked in a recursive loop with other AWS "
            f"resources and stopped your function's invocation: {function}"
        )
        self.headers = headers


@runtime_checkable
class Streamer(Protocol):
    """Runs functions by name, and hands their responses over in pieces where they come so."""

    async def invoke_streaming(
        self,
        function: str,
        event: bytes,
        stream: ResponseStream,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        """As ``Invoker.invoke``; a response that was streamed is not in the result."""


class Invoker(Protocol):
    """Runs functions by name, or by ``name:qualifier`` with a version or alias."""

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        """Run one invocation to its response, on a free or new execution environment.

        ``client_context`` is the caller's, as JSON text; ``trace_headers`` are X-Ray's, of the
        request or of each message that leads to it.

        Raises ``ThrottledError`` where reserved concurrency leaves none, ``KeyError`` for an
        unknown function, ``RecursiveInvocationError`` where a trace header has been there too
        often. A function's own error is a result, not an exception.
        """


#: The most of a streamed response: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_STREAM = 200 * 1024 * 1024
#: Above so many bytes that wait for a slow caller, the function has to wait.
_HIGH, _LOW = 1 << 20, 1 << 18


class Flow(Protocol):
    """What slows a sender down: a transport."""

    def pause_reading(self) -> None:
        """Take nothing for now."""

    def resume_reading(self) -> None:
        """Go on."""


class ResponseStream:
    """Between one environment, which writes, and one caller, who iterates."""

    def __init__(self) -> None:
        self.content_type = ""
        #: The error object of a response that broke off.
        self.error: bytes | None = None
        self._flow: Flow | None = None
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._paused = False
        self._ended = False
        self._changed = asyncio.Event()
        self.opened = asyncio.Event()

    def open(self, content_type: str, flow: Flow) -> None:
        """The response begins; ``flow`` is paused while the caller is slow."""
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
        """Nothing more comes; with an error the response is not whole."""
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
