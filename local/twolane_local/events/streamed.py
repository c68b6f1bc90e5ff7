"""The head of a streamed response, as a function URL reads it.

https://docs.aws.amazon.com/lambda/latest/dg/response-streaming-tutorial.html
A runtime that streams an HTTP response gives it the content type
``application/vnd.awslambda.http-integration-response``: status, headers and cookies as JSON, eight
NUL bytes, then the body. A stream of any other type is the body of a 200.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twolane_local.events import http_v2
from twolane_local.events.function_url import bad_gateway
from twolane_local.events.http import HttpResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INTEGRATION = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = b"\0" * 8
#: Of the head; a stream without the separator must not be gathered for ever.
_MAX_HEAD = 64 * 1024


async def head(content_type: str, pieces: AsyncIterator[bytes]) -> HttpResponse:
    """Status and headers, and of the body what has come with them; ``pieces`` is read so far.

    What cannot be read is a 502, as where the function's response is malformed.
    """
    if content_type.partition(";")[0].strip().lower() != INTEGRATION:
        kind = content_type or "application/octet-stream"
        return HttpResponse(200, (("content-type", kind),))
    data = b""
    async for piece in pieces:
        data += piece
        if _SEPARATOR in data or len(data) > _MAX_HEAD:
            break
    prelude, found, body = data.partition(_SEPARATOR)
    if not found:
        return bad_gateway("the streamed response has no end of its head")
    try:
        value = json.loads(prelude)
        shaped = {"statusCode": 200, **value, "body": None}
    except (ValueError, TypeError) as error:
        return bad_gateway(f"the head of the streamed response is malformed: {error}")
    made = http_v2.response(json.dumps(shaped).encode())
    if made.error:
        return bad_gateway(made.error)
    return HttpResponse(made.status, made.headers, body)
