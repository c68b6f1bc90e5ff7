"""Lambda's Runtime API and Extensions API for one execution environment, on a loopback port.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

No ASGI application: every invocation passes here two or three times, and through ``servers`` each
would cost another tenth of what the emulator does for a request. This module knows the paths of the
two APIs; what a call *means* is the environment's.

A client knows no more than ``host:port``, so it cannot bring a token along. A web page must not
take an invocation and answer it: on Linux the address is a random one of loopback's sixteen
million, the Host must be that address, and nothing with a header of a browser's is answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import socket
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from twolane_local.http.access import caller_of
from twolane_local.http.servers import GO_AHEAD, RequestReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.invocation import Flow
    from twolane_local.aws.lambda_.environment import Work
    from twolane_local.model import FunctionSpec


#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_RESPONSE = 6 * 1024 * 1024

_RUNTIME = b"/2018-06-01/runtime/"
_EXTENSION = b"/2020-01-01/extension/"
_ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
    b'{"status":"OK"}'
)


class Reply:
    """The one answer to one call; may be given later (both ``next`` calls wait)."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def lost(self) -> bool:
        """The caller has gone away."""
        return self._connection.transport.is_closing()

    def send(self, status: int, body: bytes = b"", headers: bytes = b"") -> None:
        """Answer; ``headers`` are further header lines, each ended by CRLF."""
        self._connection.answer(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
            % (status, _PHRASES.get(status, b"OK"), headers, len(body), body)
        )

    def accept(self) -> None:
        """Answer 202, at once where the caller waits for it before it goes on."""
        self._connection.hold(_ACCEPTED)


_PHRASES = {200: b"OK", 400: b"Bad Request", 403: b"Forbidden",
            404: b"Not Found", 413: b"Request Entity Too Large"}  # fmt: skip


class Streamed(Protocol):
    """Takes a response in pieces."""

    def write(self, data: bytes) -> None:
        """The next piece."""

    def end(self, error: bytes | None) -> None:
        """It is complete, or broke off with this error object."""


class Calls(Protocol):
    """What the runtime and its extensions may call."""

    def runtime_next(self, reply: Reply) -> None:
        """The runtime is ready for an invocation."""

    def runtime_response(self, request_id: str, body: bytes, reply: Reply) -> None:
        """The function returned."""

    def runtime_stream(self, request_id: str, content_type: str, flow: Flow) -> Streamed | None:
        """The function begins to stream its response; ``None`` where there is no such call."""

    def runtime_error(self, request_id: str, body: bytes, reply: Reply) -> None:
        """The function raised."""

    def init_error(self, body: bytes, reply: Reply) -> None:
        """The runtime could not load the function."""

    def restore_error(self, body: bytes, reply: Reply) -> None:
        """A hook after the restore from a snapshot failed."""

    def extension_register(self, name: str, events: list[str], reply: Reply) -> None:
        """An extension asks for events."""

    def extension_next(self, identifier: str, reply: Reply) -> None:
        """An extension is done with the last event."""

    def extension_error(self, identifier: str, body: bytes, reply: Reply) -> None:
        """An extension cannot go on."""


class Connection(RequestReader):
    """One kept-alive connection from the environment's process."""

    def __init__(self, calls: Calls, address: str = "") -> None:
        """``address`` is that of a listening socket; nobody else has the end of a pair."""
        super().__init__()
        self._calls = calls
        self._address = address.encode()
        self._refused = False
        self._fields: dict[bytes, bytes] = {}  # the headers
        self._body: list[bytes] = []
        self._open = 0
        self._held = b""
        self._streamed: Streamed | None = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._held and not self._open:
            self.transport.write(self._held)
            self._held = b""

    def answer(self, data: bytes) -> None:
        """Send the answer to the oldest open call."""
        self._open -= 1
        held, self._held = self._held, b""
        self.transport.write(held + data)

    def hold(self, data: bytes) -> None:
        """Send it with the answer to the call that came along with this one, or else at once.

        A caller who has already asked for the next event reads both answers together.
        """
        self._open -= 1
        self._held += data

    def head_read(self) -> None:
        self._open += 1
        self._body = []
        fields = self._fields = {name.lower(): value for name, value in self.headers}
        if self._address and (why := self._foreign(fields)):
            self._refused = True
            refuse(Reply(self), 403, "AccessDenied", why)
            self.transport.close()
            return
        if self.awaits_go_ahead():
            self.transport.write(GO_AHEAD)
        mode = fields.get(b"lambda-runtime-function-response-mode", b"")
        if mode.lower() == b"streaming" and self.url.endswith(b"/response"):
            request_id = self.url[len(_RUNTIME) + 11 : -9].decode("latin-1")
            content_type = fields.get(b"content-type", b"").decode("latin-1")
            self._streamed = self._calls.runtime_stream(request_id, content_type, self.transport)

    def _foreign(self, fields: Mapping[bytes, bytes]) -> str:
        """Why the request is not of the environment's process, or nothing."""
        caller = caller_of(self.headers)
        if caller is None or caller.host not in (self._address, self._address.partition(b":")[0]):
            return f"the Host must be {self._address.decode()}, once"
        # A page can leave its Referer out, and in old browsers the others; none hides its browser.
        if any(caller[1:]) or fields.get(b"user-agent", b"").startswith(b"Mozilla/"):
            return "a web page has no business here"
        return ""

    def body_read(self, data: bytes) -> None:
        if self._refused:
            return
        if self._streamed is not None:
            self._streamed.write(data)
        else:
            self._body.append(data)

    def request_read(self) -> None:
        if self._refused:
            return
        if self._streamed is not None:
            streamed, self._streamed = self._streamed, None
            streamed.end(trailed_error({name.lower(): value for name, value in self.trailers}))
            Reply(self).accept()
            return
        dispatch(self._calls, self.url, self._fields, b"".join(self._body), Reply(self))

    def unreadable(self) -> None:
        self.transport.abort()

    def head_too_large(self) -> None:
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._streamed is not None:
            self._streamed.end(_error("Runtime.TruncatedResponse", "the response broke off"))
            self._streamed = None


def dispatch(
    calls: Calls, url: bytes, headers: Mapping[bytes, bytes], body: bytes, reply: Reply
) -> None:
    """Turn one HTTP request into one call."""
    if url.startswith(_RUNTIME):
        _runtime(calls, url[len(_RUNTIME) :], body, reply)
    elif url.startswith(_EXTENSION):
        _extension(calls, url[len(_EXTENSION) :], headers, body, reply)
    else:
        reply.send(404, _error("NotFound", f"no such path: {url.decode('latin-1')}"))


def _runtime(calls: Calls, path: bytes, body: bytes, reply: Reply) -> None:
    if path == b"invocation/next":
        calls.runtime_next(reply)
        return
    head, _, verb = path.rpartition(b"/")
    if path == b"init/error":
        calls.init_error(body, reply)
    elif path == b"restore/error":
        calls.restore_error(body, reply)
    elif head.startswith(b"invocation/") and verb == b"response":
        calls.runtime_response(head[11:].decode("latin-1"), body, reply)
    elif head.startswith(b"invocation/") and verb == b"error":
        calls.runtime_error(head[11:].decode("latin-1"), body, reply)
    else:
        reply.send(404, _error("NotFound", f"no such path: {path.decode('latin-1')}"))


def _extension(
    calls: Calls, path: bytes, headers: Mapping[bytes, bytes], body: bytes, reply: Reply
) -> None:
    identifier = headers.get(b"lambda-extension-identifier", b"").decode("latin-1")
    if path == b"register":
        name = headers.get(b"lambda-extension-name", b"").decode("latin-1")
        try:
            events = list(json.loads(body or b"{}").get("events", []))
        except (ValueError, AttributeError):
            reply.send(400, _error("InvalidRequestFormat", "the body is not a JSON object"))
            return
        calls.extension_register(name, events, reply)
    elif path == b"event/next":
        calls.extension_next(identifier, reply)
    elif path in {b"init/error", b"exit/error"}:
        calls.extension_error(identifier, body, reply)
    else:
        reply.send(404, _error("NotFound", f"no such path: {path.decode('latin-1')}"))


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def trailed_error(trailers: Mapping[bytes, bytes]) -> bytes | None:
    """The error object of a response that failed on its way.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
    """
    kind = trailers.get(b"lambda-runtime-function-error-type")
    if kind is None:
        return None
    try:
        return base64.b64decode(
            trailers.get(b"lambda-runtime-function-error-body", b""), validate=True
        ) or _error(kind.decode("latin-1"), "")
    except ValueError:
        return _error(kind.decode("latin-1"), "")


def accept(reply: Reply) -> None:
    """The 202 that a response or an error gets."""
    reply.accept()


def refuse(reply: Reply, status: int, kind: str, message: str) -> None:
    """An error as the two APIs shape it."""
    reply.send(status, _error(kind, message))


async def serve(calls: Calls, environ: Mapping[str, str]) -> tuple[asyncio.Server, str]:
    """Open the APIs on a free loopback port; returns their address, for a process with ``environ``.

    That of AWS is 127.0.0.1, which variables for a proxy leave out by name.
    """
    proxied = any(name.lower().endswith("_proxy") for name in environ)
    host = "127.0.0.1" if proxied or sys.platform != "linux" else _unguessable()
    # asyncio sends without delay only on sockets that say that they are TCP's.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.bind((host, 0))
    except OSError:
        listener.close()
        raise
    address = f"{host}:{listener.getsockname()[1]}"
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(calls, address), sock=listener)
    return server, address


def _unguessable() -> str:
    """An address of loopback's, which has all of 127.0.0.0/8 on Linux."""
    return f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


async def connect(calls: Calls) -> socket.socket:
    """Open the APIs on one end of a pair of Unix sockets; returns the other end.

    An event takes half as long through it as through loopback's TCP.
    """
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: Connection(calls), sock=ours)
    return theirs


def next_headers(work: Work, function_arn: str) -> bytes:
    """What stands in the header of an invocation that the runtime gets.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next
    """
    lines = (
        f"Lambda-Runtime-Aws-Request-Id: {work.request_id}\r\n"
        f"Lambda-Runtime-Deadline-Ms: {work.deadline_ms}\r\n"
        f"Lambda-Runtime-Invoked-Function-Arn: {work.invoked_arn or function_arn}\r\n"
        f"Lambda-Runtime-Trace-Id: {work.trace_id}\r\n"
    )
    if work.client_context:
        # JSON is ASCII once it is escaped, and has no line ends: nothing can be smuggled in.
        context = json.dumps(json.loads(work.client_context))
        lines += f"Lambda-Runtime-Client-Context: {context}\r\n"
    if work.tenant_id:
        lines += f"Lambda-Runtime-Aws-Tenant-Id: {work.tenant_id}\r\n"
    return lines.encode("latin-1", "replace")


@dataclass(slots=True)
class _Extension:
    name: str
    events: tuple[str, ...]
    waiting: Reply | None = None


class Extensions:
    """Registered during init, told of each invocation, waited for before the freeze."""

    def __init__(self, spec: FunctionSpec) -> None:
        self._spec = spec
        self._by_id: dict[str, _Extension] = {}

    def __bool__(self) -> bool:
        return bool(self._by_id)

    @property
    def settled(self) -> bool:
        """Every one of them waits for the next event."""
        return all(extension.waiting is not None for extension in self._by_id.values())

    def register(self, name: str, events: list[str], reply: Reply, *, closed: bool) -> None:
        """Take one in, or refuse it; ``closed`` once the runtime has asked for an invocation.

        One in the runtime's own process may ask for INVOKE alone.
        """
        if closed:
            refuse(
                reply, 403, "Extension.RegistrationClosed", "Extension registration closed already"
            )
            return
        if any(event != "INVOKE" for event in events):
            refuse(
                reply,
                403,
                "ShutdownEventNotSupportedForInternalExtension",
                "Cannot register internal extension for SHUTDOWN event",
            )
            return
        identifier = str(uuid.uuid4())
        self._by_id[identifier] = _Extension(name, tuple(events))
        body = {
            "functionName": self._spec.name,
            "functionVersion": "$LATEST",
            "handler": self._spec.handler,
        }
        reply.send(200, json.dumps(body).encode(), _identifier_header(identifier))

    def next(self, identifier: str, reply: Reply) -> bool:
        """One is done with the last event; tells whether it is known."""
        extension = self._by_id.get(identifier)
        if extension is None:
            refuse(
                reply, 403, "Extension.InvalidExtensionIdentifier", "Invalid extension identifier"
            )
            return False
        extension.waiting = reply
        return True

    def tell(self, work: Work) -> None:
        """Send INVOKE to those that asked for it."""
        if not self._by_id:
            return
        event = json.dumps(
            {
                "eventType": "INVOKE",
                "deadlineMs": work.deadline_ms,
                "requestId": work.request_id,
                "invokedFunctionArn": work.invoked_arn or self._spec.arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": work.trace_id},
            }
        ).encode()
        for identifier, extension in self._by_id.items():
            if "INVOKE" in extension.events and extension.waiting is not None:
                waiting, extension.waiting = extension.waiting, None
                waiting.send(200, event, _identifier_header(identifier))


def _identifier_header(identifier: str) -> bytes:
    return b"Lambda-Extension-Identifier: %s\r\n" % identifier.encode()
