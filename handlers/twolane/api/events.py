"""Mangum's event classes, with their errors set right.

Each fix names the error, and the issue where Mangum's tracker has one. Fixes that cost something
look at the event first, so that the usual event pays for none of them.

The host of a request is read here, too: the ``Host`` header and ``X-Forwarded-Port``, in all their
forms.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import ALB, APIGateway, HTTPGateway, LambdaAtEdge

from twolane.errors import TwolaneError
from twolane.patches.versions import paths_have_root

if TYPE_CHECKING:
    from mangum.types import LambdaConfig, LambdaContext, LambdaEvent, Response, Scope

#: A REST API hands base64 to the client as it is unless it is set up for that media type, so
#: whatever is text has to leave as text: problem+json, geo+json … and XML.
#: https://github.com/Kludex/mangum/issues/270
TEXT_MIME_TYPES = [*DEFAULT_TEXT_MIME_TYPES, "+json", "+xml", "application/x-ndjson"]


class _Fixes:
    """The base of all event classes. ``scope`` is built once: Mangum builds it again to answer."""

    event: LambdaEvent
    config: LambdaConfig
    _scope: Scope | None = None

    @property
    def scope(self) -> Scope:
        if self._scope is None:
            self._scope = self._build()
        return self._scope

    def _build(self) -> Scope:
        try:
            scope: Scope = super().scope  # type: ignore[misc]
        except ValueError as exc:
            scope = self._scope_without_authority(exc)
        try:
            self._repair(scope)
            if not scope["path"].isascii():
                scope["path"].encode()
        except ValueError as exc:
            raise BadRequestError(f"The request cannot be decoded: {exc}") from exc
        return scope

    @property
    def body(self) -> bytes:
        try:
            body: bytes = super().body  # type: ignore[misc]
        except ValueError as exc:
            raise BadRequestError(f"The body cannot be decoded: {exc}") from exc
        return body

    def __call__(self, response: Response) -> dict[str, Any]:
        try:
            out: dict[str, Any] = super().__call__(response)  # type: ignore[misc]
        except UnicodeDecodeError:
            # Header values are Latin-1 in HTTP/1.1 and in Starlette; Mangum takes them for UTF-8.
            out = super().__call__(_in_utf8(response))  # type: ignore[misc]
        return self._finish(out, response)

    def bad_request(self, detail: str) -> dict[str, Any]:
        """The answer to a request that cannot be read, in the shape of this source of events."""
        self._scope = {"aws.event": self.event}
        problem = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail}
        return self(
            {
                "status": 400,
                "headers": [[b"content-type", b"application/problem+json"]],
                "body": json.dumps(problem).encode(),
            }
        )

    def _repair(self, scope: Scope) -> None:
        """Set right what Mangum made of the request."""

    def _finish(self, out: dict[str, Any], response: Response) -> dict[str, Any]:  # noqa: ARG002
        """Set right what Mangum made of the response."""
        return out

    def _scope_without_authority(self, cause: ValueError) -> Scope:
        """Mangum takes a Host with more than one colon (IPv6), or an X-Forwarded-Port that is a
        list, for an error. https://github.com/Kludex/mangum/issues/303
        """
        event = self.event
        self.event, taken = without(event)
        try:
            scope: Scope = super().scope  # type: ignore[misc]
            scope["headers"] = [
                *([name.encode(), value.encode()] for name, value in taken.items()),
                *scope["headers"],
            ]
        except ValueError:
            raise BadRequestError(f"The request cannot be decoded: {cause}") from cause
        finally:
            self.event = event
        scope["server"] = server_of(taken.get("host", ""), taken.get("x-forwarded-port", ""))
        scope["aws.event"] = event
        return scope


class _Mounted(_Fixes):
    """An API below a base path or a stage, which the application should not have to know of.

    As under ``uvicorn --root-path``, the prefix is ``root_path`` and stays in ``path``: links that
    the application makes then hold, FastAPI's ``/docs`` works, and so do mounted applications.
    Mangum leaves ``root_path`` empty. https://github.com/Kludex/mangum/issues/318
    """

    def __init__(self, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> None:
        # The base path ends at a slash or at the end: Mangum cuts `/api` off `/apiary` as well,
        # and leaves `x` of `/api/x` for the base path `/api/`.
        self._base = ""
        if config["api_gateway_base_path"] != "/":
            base = f"/{config['api_gateway_base_path'].strip('/')}"
            self._base = base if _under(self._raw_path(event), base) else ""
            config = {**config, "api_gateway_base_path": self._base or "/"}
        super().__init__(event, context, config)  # type: ignore[call-arg]

    def _raw_path(self, event: LambdaEvent) -> str:
        return str(event["path"])

    def _repair(self, scope: Scope) -> None:
        if self.event.get("multiValueHeaders"):
            scope["headers"] = list(_separate(scope["headers"], self.event["multiValueHeaders"]))
        root_path = self._stage() + self._base
        if root_path:
            self._mount(scope, root_path)

    def _mount(self, scope: Scope, root_path: str) -> None:
        scope["root_path"] = root_path
        path = scope["path"] or "/"
        scope["path"] = root_path + path if paths_have_root() else path

    def _stage(self) -> str:
        return ""


class RestApi(_Mounted, APIGateway):
    """REST API (API Gateway v1)."""

    def _stage(self) -> str:
        # The event's own path has no stage, that of the request context has, where clients use it.
        path, sent = self.event["path"], self.event["requestContext"].get("path") or ""
        return str(sent[: -len(path)]) if path and sent != path and sent.endswith(path) else ""


class HttpApi(_Mounted, HTTPGateway):
    """HTTP API (API Gateway v2, both payload formats) and function URL."""

    def _raw_path(self, event: LambdaEvent) -> str:
        if event["version"] == "2.0":
            return str(event["requestContext"]["http"]["path"])
        return str(event["path"])

    def _repair(self, scope: Scope) -> None:
        stage = self.event["requestContext"].get("stage", "$default")
        prefix = "" if stage == "$default" or self._base else f"/{stage}"
        if prefix and self.event["version"] == "2.0" and _under(scope["path"], prefix):
            # An HTTP API puts a named stage before the path, which no route of the application
            # matches; behind a domain of one's own too, where links must not show it.
            scope["path"] = scope["path"][len(prefix) :] or "/"
            if ".execute-api." in self.event["requestContext"].get("domainName", ""):
                self._mount(scope, prefix)
        super()._repair(scope)

    def _finish(self, out: dict[str, Any], response: Response) -> dict[str, Any]:
        if not response["body"] and not _has_content_type(response):
            # Mangum declares an empty body (204, 304) to be JSON.
            out["headers"].pop("content-type", None)
            if not out["headers"] and self.event["version"] == "2.0":
                del out["headers"]
        for name in self.config["exclude_headers"]:
            # Mangum excludes headers for REST APIs, load balancers and Lambda@Edge only.
            for part in ("headers", "multiValueHeaders"):
                out.get(part, {}).pop(name, None)
            if name == "set-cookie":
                out.pop("cookies", None)
        return out


class LoadBalancer(_Fixes, ALB):
    """Application Load Balancer, with single-value or multi-value headers."""

    def _repair(self, scope: Scope) -> None:
        # Mangum takes the whole list for the client's address. The balancer appends the address
        # that it saw; what stands before is the client's own claim.
        # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html
        address, port = scope["client"]
        scope["client"] = (address.rpartition(",")[2].strip(), port)

    def _finish(self, out: dict[str, Any], response: Response) -> dict[str, Any]:  # noqa: ARG002
        # Repeated headers go out in different cases; Mangum excludes the lower one only.
        for name in self.config["exclude_headers"]:
            for cased in [key for key in out.get("headers", {}) if key.lower() == name]:
                del out["headers"][cased]
        return out


class Edge(_Fixes, LambdaAtEdge):
    """Lambda@Edge:
    https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-generating-http-responses-in-requests.html
    """

    def _repair(self, scope: Scope) -> None:
        from urllib.parse import unquote

        request = self.event["Records"][0]["cf"]["request"]
        # Mangum takes the first of several headers of a name, and the path as it was sent.
        scope["headers"] = [
            [name.encode(), one["value"].encode()]
            for name, values in request["headers"].items()
            for one in values
        ]
        scope["path"] = unquote(request["uri"]) or "/"

    def _finish(self, out: dict[str, Any], response: Response) -> dict[str, Any]:
        # Mangum keeps the last of several headers of a name: one cookie of two.
        headers: dict[str, list[dict[str, str]]] = {}
        for key, value in _in_utf8(response)["headers"]:
            name = key.decode().lower()
            if name in out["headers"]:
                headers.setdefault(name, []).append({"key": name, "value": value.decode()})
        out["headers"] = headers
        if out["isBase64Encoded"]:
            # CloudFront knows this key and not `isBase64Encoded`, and sends base64 as text.
            out["bodyEncoding"] = "base64"
        return out


HANDLERS = (LoadBalancer, HttpApi, RestApi, Edge)


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _separate(headers: Any, multi: dict[str, Any]) -> Any:
    """Repeated request headers one by one, as under any server; Mangum joins them with commas.
    Cookies are one header, joined with semicolons (RFC 9113, 8.2.3).
    """
    repeated = {k.lower(): v for k, v in multi.items() if isinstance(v, list) and len(v) > 1}
    for key, value in headers:
        values = repeated.get(key.decode())
        if values is None:
            yield [key, value]
        elif key == b"cookie":
            yield [key, "; ".join(values).encode()]
        else:
            yield from ([key, one.encode()] for one in values)


def _has_content_type(response: Response) -> bool:
    return any(key.lower() == b"content-type" for key, _ in response["headers"])


def _in_utf8(response: Response) -> Response:
    headers = [[key, _utf8(value)] for key, value in response["headers"]]
    return {"status": response["status"], "headers": headers, "body": response["body"]}


def _utf8(value: bytes) -> bytes:
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


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
