"""An HTTP request and response as a gateway has them, their bodies in events, and CORS.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as the gateway received it.

    ``path`` is percent-decoded, ``raw_path`` and ``query`` are as sent; header names are in lower
    case, in the order received. ``time_ms`` is in milliseconds since the epoch.
    """

    method: str
    path: str
    raw_path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    source_ip: str = "127.0.0.1"
    protocol: str = "HTTP/1.1"
    time_ms: int = 0
    request_id: str = ""
    domain: str = "localhost"
    #: The names of ``headers`` as the client wrote them, if known.
    cased_names: tuple[str, ...] = ()

    @property
    def cased_headers(self) -> tuple[tuple[str, str], ...]:
        if not self.cased_names:
            return self.headers
        values = (value for _, value in self.headers)
        return tuple(zip(self.cased_names, values, strict=True))

    def header(self, name: str) -> str:
        """The header's first value, or the empty string."""
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response for the client.

    ``error`` is set if the gateway made it, and says why. ``stream`` is the rest of the body, after
    ``body``. ``fault`` is the type of a gateway response, which a REST API may customise.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    error: str | None = None
    stream: AsyncIterator[bytes] | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The route of a request: its key (``GET /x/{id}``), its API and function, its parameters."""

    route_key: str
    path: str
    function: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    api_id: str = "local"
    stage: str = "$default"
    authorizer: Mapping[str, Any] | None = None
    stage_variables: Mapping[str, str] = field(default_factory=dict)


#: The function gets bodies of these types as text, all others in base64:
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")


def is_text(content_type: str) -> bool:
    """True if an HTTP API passes a body of this type as text."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith(_TEXT_TYPES) or kind.endswith(("+json", "+xml"))


def encode_body(request: HttpRequest) -> tuple[str, bool]:
    """The body for the event, and True if it is encoded in base64."""
    if is_text(request.header("content-type")):
        try:
            return request.body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode("ascii"), True


def decode_body(body: Any, *, is_base64: bool) -> bytes:
    """The body of a function's response; raises ``ValueError`` if it is malformed."""
    if body is None:
        return b""
    if not isinstance(body, str):
        raise ValueError("body is not a string")  # noqa: TRY004 (a malformed response, all of them)
    return base64.b64decode(body, validate=True) if is_base64 else body.encode("utf-8")


def one_slash(path: str) -> str:
    """The path with one slash at its beginning."""
    return "/" + path.lstrip("/") if path.startswith("//") else path


def json_response(
    status: int, value: Any, error: str | None = None, *headers: tuple[str, str]
) -> HttpResponse:
    """A response of the gateway itself."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HttpResponse(status, (("content-type", "application/json"), *headers), body, error)


def preflight_response(request: HttpRequest, cors: Mapping[str, Any]) -> HttpResponse | None:
    """The response to a preflight request, ``None`` for any other request."""
    if request.method != "OPTIONS" or not request.header("access-control-request-method"):
        return None
    headers = _origin_headers(request, cors)
    if headers:
        for name, key in (
            ("access-control-allow-methods", "allowMethods"),
            ("access-control-allow-headers", "allowHeaders"),
        ):
            if cors.get(key):
                headers.append((name, ",".join(map(str, cors[key]))))
        if cors.get("maxAge") is not None:
            headers.append(("access-control-max-age", str(cors["maxAge"])))
    return HttpResponse(204, tuple(headers))


def with_cors_headers(
    request: HttpRequest, response: HttpResponse, cors: Mapping[str, Any]
) -> HttpResponse:
    """The response with the configured CORS headers; those of the function are dropped."""
    kept = [item for item in response.headers if not item[0].startswith("access-control-")]
    headers = _origin_headers(request, cors)
    if headers and cors.get("exposeHeaders"):
        headers.append(("access-control-expose-headers", ",".join(cors["exposeHeaders"])))
    return replace(response, headers=(*kept, *headers))


def _origin_headers(request: HttpRequest, cors: Mapping[str, Any]) -> list[tuple[str, str]]:
    origin = request.header("origin")
    allowed = [str(item) for item in cors.get("allowOrigins") or ()]
    if not origin or not any(_matches(origin, pattern) for pattern in allowed):
        return []
    credentials = str(cors.get("allowCredentials", False)).lower() == "true"
    value = "*" if "*" in allowed and not credentials else origin
    headers = [("access-control-allow-origin", value)]
    if credentials:
        headers.append(("access-control-allow-credentials", "true"))
    return headers


def _matches(origin: str, pattern: str) -> bool:
    """``https://*.example.com`` and ``http://*`` are patterns."""
    head, star, tail = pattern.partition("*")
    if not star:
        return origin.lower() == pattern.lower()
    return (
        len(origin) > len(head) + len(tail) - 1
        and origin.lower().startswith(head.lower())
        and origin.lower().endswith(tail.lower())
    )
