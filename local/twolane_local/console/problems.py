"""What goes wrong, as ``application/problem+json``: https://www.rfc-editor.org/rfc/rfc9457"""

from __future__ import annotations

import http
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from twolane.errors import TwolaneError
from twolane_local.console.application import ApplicationError
from twolane_local.console.story import AmbiguousIdError, UnknownIdError
from twolane_local.queues.errors import QueueDoesNotExistError, SqsError
from twolane_local.quick_json import utf8

if TYPE_CHECKING:
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
