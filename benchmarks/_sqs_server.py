"""A stand-in for SQS that costs next to nothing: what is measured is the client.

Answers SendMessage and SendMessageBatch of the JSON protocol over kept-alive HTTP/1.1. Runs as a
process of its own: ``python benchmarks/_sqs_server.py`` prints its port.
"""

from __future__ import annotations

import asyncio
import hashlib
import json


class Sqs(asyncio.Protocol):
    """One connection. ``latency_s`` is added to every answer, as the network adds it."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        if fields.get(b"expect") == b"100-continue" and not rest:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        loop = asyncio.get_running_loop()
        loop.call_later(self._latency_s, self._answer, json.loads(rest[:length]))

    def _answer(self, request: dict[str, object]) -> None:
        entries = request.get("Entries")
        answer: dict[str, object]
        if isinstance(entries, list):
            answer = {
                "Successful": [
                    {"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": _md5(entry)}
                    for entry in entries
                ],
                "Failed": [],
            }
        elif "MessageBody" in request:
            answer = {"MessageId": "m", "MD5OfMessageBody": _md5(request)}
        else:
            answer = {"Attributes": {"ApproximateNumberOfMessages": "0"}}
        body = json.dumps(answer).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: 7a62c49f-347e-4fc4-9331-6e8e7a96aa73\r\n"
            b"Date: Mon, 01 Jun 2026 00:00:00 GMT\r\nContent-Type: application/x-amz-json-1.0\r\n"
            b"connection: keep-alive\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )


def _md5(entry: dict[str, object]) -> str:
    return hashlib.md5(str(entry["MessageBody"]).encode(), usedforsecurity=False).hexdigest()


async def main(latency_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sqs(latency_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import sys

    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
