"""Whom a request was sent to: the ``Host`` header and ``X-Forwarded-Port``, in all their forms."""

from __future__ import annotations

import re
from typing import Any

from twolane.errors import TwolaneError

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]*)(?::(?P<port>[0-9]*))?")
_HEADERS = ("host", "x-forwarded-port")
_DEFAULT_NAME, _DEFAULT_PORT = "mangum", 80


class BadRequestError(TwolaneError):
    """The client's request cannot be read; it is answered with 400 and never reaches the app."""


def server_of(host: str, forwarded_port: str) -> tuple[str, int]:
    """The ASGI ``server``. Raises ``BadRequestError`` for a Host that is none (RFC 9112, 3.2)."""
    match = _HOST.fullmatch(host)
    if match is None:
        raise BadRequestError(f"The Host header {host[:80]!r} is not a host with an optional port.")
    # A proxy before the load balancer or gateway makes it a list: the first is the client's.
    port = match["port"] or forwarded_port.partition(",")[0].strip()
    number = int(port) if port.isascii() and port.isdecimal() else _DEFAULT_PORT
    return match["name"].strip("[]") or _DEFAULT_NAME, number


def without(event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """``event`` without the two headers, and their values: what Mangum could not read."""
    taken: dict[str, str] = {}
    if "Records" in event:
        (record, *_) = event["Records"]
        request = record["cf"]["request"]
        headers = _drop(request["headers"], taken, lambda value: str(value[0]["value"]))
        rest = {**record["cf"], "request": {**request, "headers": headers}}
        return {**event, "Records": [{**record, "cf": rest}]}, taken
    cleaned = dict(event)
    if event.get("headers"):
        cleaned["headers"] = _drop(event["headers"], taken, str)
    if event.get("multiValueHeaders"):
        cleaned["multiValueHeaders"] = _drop(
            event["multiValueHeaders"], taken, lambda value: str(value[-1])
        )
    return cleaned, taken


def _drop(headers: dict[str, Any], taken: dict[str, str], read: Any) -> dict[str, Any]:
    for key, value in headers.items():
        if key.lower() in _HEADERS and value:
            taken[key.lower()] = read(value)
    return {key: value for key, value in headers.items() if key.lower() not in _HEADERS}
