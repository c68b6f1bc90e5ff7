"""Reading what a request asks for: its body and its parameters, checked."""

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
    """The request cannot be answered; ``status`` is HTTP's word for why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Json(Response):
    """JSON values, text as it is."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
        return utf8(text)


def problem(status: int, detail: str) -> Response:
    """The answer of that status."""
    body = {
        "type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status,
        "detail": detail,
    }  # fmt: skip
    return Response(
        utf8(json.dumps(body, ensure_ascii=False)), status, media_type="application/problem+json"
    )


def status_of(error: Exception) -> int:
    """The status that tells what kind of error it is."""
    if isinstance(error, ProblemError):
        return error.status
    if isinstance(error, (UnknownIdError, QueueDoesNotExistError)):
        return 404
    if isinstance(error, AmbiguousIdError):
        return 409
    return 502 if isinstance(error, ApplicationError) else 400


async def answered(_: Request, error: Exception) -> Response:
    """The problem for an error of ours."""
    text = error.message if isinstance(error, SqsError) else str(error)
    return problem(status_of(error), text)


async def not_found(request: Request, _: Exception) -> Response:
    """For an address that is none."""
    return problem(404, f"there is no {request.url.path}; docs/console.md lists what there is")


async def wrong_method(request: Request, _: Exception) -> Response:
    """For an address that takes another method."""
    return problem(405, f"{request.url.path} takes no {request.method}")


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises ``ProblemError``."""
    raw = await request.body()
    try:
        value = json.loads(raw or b"{}")
    except ValueError as error:
        raise ProblemError(400, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProblemError(400, "the body is JSON, but no object")
    return value


def field(
    body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None
) -> Any:
    """One field, of the kind that is wanted, or ``default`` where it is not given."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(each.__name__ for each in kinds)
        raise ProblemError(400, f"{name!r} is a {type(value).__name__}; it must be a {wanted}")
    return value


def needed(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A field that must be given."""
    value = field(body, name, kind)
    if value is None:
        raise ProblemError(400, f"{name!r} is missing")
    return value


def texts(body: Mapping[str, Any], name: str) -> list[str] | None:
    """A field that is a list of texts."""
    values: list[str] | None = field(body, name, list)
    if values is not None and not all(isinstance(value, str) for value in values):
        raise ProblemError(400, f"{name!r} must be a list of texts")
    return values


def number(query: Mapping[str, str], name: str, default: int, most: int | None = None) -> int:
    """A parameter of the query that is a whole number."""
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise ProblemError(400, f"{name}={text!r} is no whole number from 0 on")
    return int(text) if most is None else min(int(text), most)
