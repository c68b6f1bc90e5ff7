"""AWS's event stream encoding, of which ``InvokeWithResponseStream`` answers consist.

https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRING = 7
#: The most of one event's payload.
MAX_PAYLOAD = 16 * 1024 * 1024


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message: lengths, their checksum, string headers, payload, the checksum of it all."""
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
    """A piece of the response."""
    return message(
        {
            ":message-type": "event",
            ":event-type": "PayloadChunk",
            ":content-type": "application/octet-stream",
        },
        data,
    )


def invoke_complete(error: bytes | None, log_result: str = "") -> bytes:
    """The end; ``error`` is the error object of a function that failed, ``log_result`` base64."""
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
