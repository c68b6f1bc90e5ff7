"""The event stream of ``InvokeWithResponseStream``: a function's response, encoded.

A response that the runtime does not stream becomes one chunk.
https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
The encoding: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from twolane_local.aws.invocation import StreamedInvocation


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
