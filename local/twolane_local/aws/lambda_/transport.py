"""Stands in for ``runtime_client``, the native half of AWS's runtime client: its HTTP.

The native one gives each event from a thread to the thread that waits for it, and waits for the
answer to each response before it asks for the next event; that takes longer than most handlers.
In its place this one saves a third of the processor time, and of the median response, of "isolated,
1 connection" in ``benchmarks/emulator.py``.
This one sends a response and the request for the next event as one, on one kept connection: the
Runtime API sees the same calls in the same order. The main thread waits in a system call that
signals interrupt, so that signal handlers run while it waits.

It has the module's functions; every error is a ``RuntimeError``, as the module's are.
"""

from __future__ import annotations

import os
import socket
from typing import Any

_BASE = "/2018-06-01/runtime/invocation/"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_HOST = "twolane"
_NEXT = f"GET {_BASE}next HTTP/1.1\r\nHost: {_HOST}\r\n\r\n".encode()
#: A response above this is accepted first: it may be refused (413), which ends the runtime.
_TOGETHER = 64 * 1024
_MAX_CAUSE = 1024 * 1024
_DEADLINE = "Lambda-Runtime-Deadline-Ms"


class Transport:
    """One connection to the Runtime API; used by one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""
        self._asked = False

    def next(self) -> tuple[bytes, dict[str, Any]]:
        """Wait for an event; returns it and the headers that describe it."""
        if self._asked:
            self._asked = False
            self._expect(202)
        else:
            self._socket.sendall(_NEXT)
        event, headers = self._expect(200)
        return event, {**headers, _DEADLINE: int(headers[_DEADLINE])}

    def fail_init(self, body: bytes) -> None:
        """Tell that the handler does not load; nothing follows."""
        head = (
            f"POST {_INIT_ERROR} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        self._expect(202)

    def post(self, path: str, body: bytes, content_type: str, headers: str = "") -> None:
        """Send the outcome of an invocation; a call of ``next`` must follow."""
        head = (
            f"POST {_BASE}{path} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        ).encode("latin-1", "replace")
        if len(body) <= _TOGETHER:
            self._asked = True
            self._socket.sendall(head + body + _NEXT)
        else:
            self._socket.sendall(head + body)
            self._expect(202)

    def close(self) -> None:
        self._socket.close()

    def _expect(self, wanted: int) -> tuple[bytes, dict[str, str]]:
        """Read one answer; raises ``RuntimeError`` where its status is another."""
        data = self._received
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        status, *lines = data[:end].decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        start = end + 4
        finish = start + int(headers["Content-Length"])
        if len(data) < finish:
            parts = [data]
            missing = finish - len(data)
            while missing > 0:
                parts.append(self._more())
                missing -= len(parts[-1])
            data = b"".join(parts)
        body, self._received = data[start:finish], data[finish:]
        code = int(status.split(" ", 2)[1])
        if code != wanted:
            text = body.decode("utf-8", "replace")
            raise RuntimeError(f"the Runtime API answered {code} instead of {wanted}: {text}")
        return body, headers

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise RuntimeError("the Runtime API closed the connection")
        return data


_transport: Transport | None = None


def adopt(descriptor: int) -> None:
    """Use this connection, which the emulator opened, from now on."""
    global _transport  # noqa: PLW0603 (one for the process)
    os.set_inheritable(descriptor, False)
    if _transport is not None:
        _transport.close()
    _transport = Transport(socket.socket(fileno=descriptor))


def _adopted() -> Transport:
    if _transport is None:
        raise RuntimeError("there is no connection to the Runtime API")
    return _transport


# The functions of the native module, by its names.


def initialize_client(user_agent: str) -> None:
    """Nothing to do: ``adopt`` has done it, or will once a fork server has forked."""


def next() -> tuple[bytes, dict[str, Any]]:  # noqa: A001
    """The event, and its headers; the deadline is a number."""
    return _adopted().next()


def post_invocation_result(
    invoke_id: str, data: bytes, content_type: str, invocation_id: str | None = None
) -> None:
    """The function returned."""
    _adopted().post(f"{invoke_id}/response", data, content_type, _invocation(invocation_id))


def post_error(
    invoke_id: str, error: str, xray_fault: str, invocation_id: str | None = None
) -> None:
    """The function raised."""
    headers = (
        f"Lambda-Runtime-Function-XRay-Error-Cause: {cause(xray_fault)}\r\n"
        f"{_invocation(invocation_id)}"
    )
    _adopted().post(
        f"{invoke_id}/error", error.encode("utf-8", "replace"), "application/json", headers
    )


def post_init_error(body: bytes) -> None:
    """The handler does not load. AWS's client sends this by itself; the plain one needs it."""
    _adopted().fail_init(body)


def cause(fault: str) -> str:
    """A fault as the value of a header, which has no line ends and a limit of 1 MB."""
    return "".join(fault.splitlines()) if len(fault) < _MAX_CAUSE else ""


def _invocation(identifier: str | None) -> str:
    return f"Lambda-Runtime-Invocation-Id: {identifier}\r\n" if identifier else ""
