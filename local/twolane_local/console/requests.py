"""Reads and checks a request's body and parameters, and answers in JSON or as a problem."""

from __future__ import annotations

import http
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from twolane.errors import TwolaneError
from twolane_local.aws.sqs.errors import QueueDoesNotExistError, SqsError
from twolane_local.console.application import ApplicationError
from twolane_local.http.json_text import utf8
from twolane_local.journal.related_events import AmbiguousIdError, UnknownIdError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


class ProblemError(TwolaneError):
    """The request cannot be answered; ``status`` is the HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Json(Response):
    """A response of JSON values, with text that is not ASCII unescaped."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
        return utf8(text)


def problem(status: int, detail: str) -> Response:
    body = {
        "type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status,
        "detail": detail,
    }  # fmt: skip
    return Response(
        utf8(json.dumps(body, ensure_ascii=False)), status, media_type="application/problem+json"
    )


def status_of(error: Exception) -> int:
    if isinstance(error, ProblemError):
        return error.status
    if isinstance(error, (UnknownIdError, QueueDoesNotExistError)):
        return 404
    if isinstance(error, AmbiguousIdError):
        return 409
    return 502 if isinstance(error, ApplicationError) else 400


async def answered(_: Request, error: Exception) -> Response:
    """Answer an error of ours as a problem."""
    text = error.message if isinstance(error, SqsError) else str(error)
    return problem(status_of(error), text)


async def not_found(request: Request, _: Exception) -> Response:
    return problem(404, f"there is no {request.url.path}; docs/console.md lists all addresses")


async def wrong_method(request: Request, _: Exception) -> Response:
    return problem(405, f"{request.url.path} does not allow {request.method}")


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body. Raises ``ProblemError``."""
    raw = await request.body()
    try:
        value = json.loads(raw or b"{}")
    except ValueError as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProblemError(400, "the body is JSON, but not an object")
    return value


def field(
    body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None
) -> Any:
    """Return a field of the given type, or ``default`` if it is absent. Raises ``ProblemError``."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(each.__name__ for each in kinds)
        raise ProblemError(400, f"{name!r} is a {type(value).__name__}; it must be a {wanted}")
    return value


def required_field(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    value = field(body, name, kind)
    if value is None:
        raise ProblemError(400, f"{name!r} is missing")
    return value


def string_list(body: Mapping[str, Any], name: str) -> list[str] | None:
    values: list[str] | None = field(body, name, list)
    if values is not None and not all(isinstance(value, str) for value in values):
        raise ProblemError(400, f"{name!r} must be a list of strings")
    return values


def int_parameter(
    query: Mapping[str, str], name: str, default: int, maximum: int | None = None
) -> int:
    """Return a parameter of the query that is a whole number, at most ``maximum``."""
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise ProblemError(400, f"{name}={text!r} is not a whole number of 0 or more")
    return int(text) if maximum is None else min(int(text), maximum)
