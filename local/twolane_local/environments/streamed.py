"""A response that a runtime posts in pieces: handed on, or gathered for whoever wants it whole.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local import runtime_api
from twolane_local.environments import report
from twolane_local.streaming import MAX_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.streaming import Flow, ResponseStream


class StreamedResponse:
    """Implements ``Streamed``. ``done(payload, error)`` is told how it ended."""

    def __init__(
        self,
        stream: ResponseStream | None,
        content_type: str,
        flow: Flow,
        done: Callable[[bytes, str | None], None],
    ) -> None:
        self._stream = stream
        self._done = done
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = runtime_api.MAX_RESPONSE if stream is None else MAX_STREAM
        if stream is not None:
            stream.open(content_type, flow)

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            return  # said at the end
        if self._stream is not None:
            self._stream.write(data)
        else:
            self._parts.append(data)

    def end(self, error: bytes | None) -> None:
        if error is None and self._size > self._limit:
            error = report.too_large(self._size, self._limit)
        if error is not None:
            self._done(error, "Unhandled")
        else:
            self._done(b"".join(self._parts), None)
