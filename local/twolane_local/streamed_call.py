"""One call of ``InvokeWithResponseStream``: a function's response as an event stream.

A response that the runtime does not stream comes whole, as one chunk.
https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING

from twolane_local.event_stream import invoke_complete, payload_chunk
from twolane_local.invoke import Streamer
from twolane_local.streaming import ResponseStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from typing import Any

    from twolane_local.invoke import Invocation, Invoker


class StreamedCall:
    """``begin``, then read ``events``."""

    def __init__(
        self,
        invoker: Invoker,
        function: str,
        event: bytes,
        request_id: str,
        client_context: str,
        *,
        trace_headers: Sequence[str] = (),
    ) -> None:
        self._stream = ResponseStream()
        call: Coroutine[Any, Any, Invocation]
        if isinstance(invoker, Streamer):
            call = invoker.invoke_streaming(
                function, event, self._stream, request_id=request_id,
                client_context=client_context, trace_headers=trace_headers,
            )  # fmt: skip
        else:
            call = invoker.invoke(
                function, event, request_id=request_id, client_context=client_context,
                trace_headers=trace_headers,
            )  # fmt: skip
        self._running = asyncio.ensure_future(call)

    async def begin(self) -> None:
        """Wait for the beginning of the response; raises what ``Invoker.invoke`` raises."""
        opened = asyncio.ensure_future(self._stream.opened.wait())
        await asyncio.wait((opened, self._running), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self._running.done():
            self._running.result()

    async def events(self, *, with_log: bool) -> AsyncIterator[bytes]:
        """The encoded events, as the function writes them."""
        if self._stream.opened.is_set():
            async for piece in self._stream:
                yield payload_chunk(piece)
        outcome = await self._running
        if outcome.error is None and outcome.payload:
            yield payload_chunk(outcome.payload)
        log = base64.b64encode(outcome.log_tail()).decode() if with_log else ""
        yield invoke_complete(outcome.payload if outcome.error is not None else None, log)
