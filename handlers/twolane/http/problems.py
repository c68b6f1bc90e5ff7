"""Every error as ``application/problem+json``: https://www.rfc-editor.org/rfc/rfc9457

``install_problems(app)`` is one call. An error that is not listed here stays what it was: a 500
that says nothing of the inside, and a log line that says all of it.
"""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from twolane.environment.logs import emit
from twolane.errors import PublishError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

logger = logging.getLogger("twolane.http")

MEDIA_TYPE = "application/problem+json"
#: Seconds after which a client may try again what the queue or the store did not take.
RETRY_AFTER_S = 2


class Problem(HTTPException):
    """An error with members of its own: ``raise Problem(409, "…", type="…", task_id=…)``."""

    def __init__(
        self,
        status_code: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(status_code, detail, headers)
        self.members = members


class ProblemResponse(JSONResponse):
    """A problem document; ``type`` is ``about:blank`` where the status says it all."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        document = {"type": "about:blank", "title": _title(status), "status": status}
        if detail is not None:
            document["detail"] = detail
        super().__init__({**document, **members}, status_code=status, headers=dict(headers or {}))


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


#: How the OpenAPI document describes a problem; applications may add members.
SCHEMA = {
    "title": "Problem",
    "description": "https://www.rfc-editor.org/rfc/rfc9457",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"description": "What was wrong, where the problem has parts."},
    },
}


def install_problems(app: FastAPI) -> None:
    """Answer every error of ``app`` as a problem document, and describe them so in its OpenAPI.

    Call it once Celery is imported, if it is used at all.
    """
    openapi = app.openapi

    def openapi_with_problems() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(openapi())
        return app.openapi_schema

    # The way that FastAPI documents: https://fastapi.tiangolo.com/how-to/extending-openapi/
    vars(app)["openapi"] = openapi_with_problems
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(PublishError, _unavailable)
    if "kombu" in sys.modules:
        # What other brokers' transports raise. An application without Celery has none of them.
        from kombu.exceptions import OperationalError

        app.add_exception_handler(OperationalError, _unavailable)
    app.add_exception_handler(StoreUnavailableError, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with every error as a problem, whether or not it names the status."""
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path in document.get("paths", {}).values():
        for method, operation in path.items():
            if method not in _METHODS:
                continue
            responses = operation.setdefault("responses", {})
            for status, response in responses.items():
                if str(status)[0] in "45":
                    response["content"] = problem
            responses.setdefault("default", {"description": "Any other error", "content": problem})
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


async def _http(request: Request, exc: Exception) -> ProblemResponse:
    assert isinstance(exc, HTTPException)  # noqa: S101 - Starlette looks handlers up by class
    headers = {name.lower(): text for name, text in (exc.headers or {}).items()}
    if exc.status_code == 405:
        # Starlette names the methods of the first route with that path only.
        named = {method.strip() for method in headers.get("allow", "").split(",")}
        headers["allow"] = ", ".join(sorted((named | _methods(request)) - {""}))
    members = dict(getattr(exc, "members", {}))
    # FastAPI lets applications put any JSON value there.
    detail: Any = exc.detail
    if not isinstance(detail, str):
        members, detail = {"errors": jsonable_encoder(detail), **members}, None
    if detail == _title(exc.status_code):
        detail = None
    return ProblemResponse(exc.status_code, detail, headers=headers, **members)


def _methods(request: Request) -> set[str]:
    """All methods of the request's path that the OpenAPI document knows."""
    app, scope = request.app, request.scope
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    found: set[str] = set()
    for template, operations in app.openapi().get("paths", {}).items():
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in operations if method in _METHODS}
    return found


async def _validation(_: Request, exc: Exception) -> ProblemResponse:
    """The place and the reason, never the input, which may hold a secret."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101
    errors = [
        {"loc": list(error["loc"]), "msg": error["msg"], "type": error["type"]}
        for error in exc.errors()
    ]
    detail = "The request does not fit the schema; `errors` says where."
    return ProblemResponse(422, detail, errors=jsonable_encoder(errors))


async def _unavailable(request: Request, exc: Exception) -> ProblemResponse:
    """Nothing was accepted: 503, and when to come again. The cause is for the log only."""
    if not getattr(exc, "retryable", True):
        # The one failure of an enqueue that coming again does not cure: no ``Retry-After``.
        emit(
            logger,
            "log",
            f"{request.method} {request.url.path} answered 413: {exc}",
            level=logging.ERROR,
        )
        return ProblemResponse(413, "What was sent makes a task that is too big for its queue.")
    emit(
        logger,
        "log",
        f"{request.method} {request.url.path} answered 503: {exc}",
        level=logging.ERROR,
        exc_info=exc,
    )
    what = (
        "The state store did not answer"
        if isinstance(exc, StoreUnavailableError)
        else "The task could not be put on its queue"
    )
    return ProblemResponse(
        503,
        f"{what}; try again after {RETRY_AFTER_S} seconds.",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )


async def _unexpected(_: Request, exc: Exception) -> ProblemResponse:  # noqa: ARG001
    """Starlette raises the error again once this is sent, so the server logs it."""
    return ProblemResponse(500)
