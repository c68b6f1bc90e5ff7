"""Moto without Flask and without a validator of OpenAPI: a second of its start, and 13 packages.

Moto serves on werkzeug, and takes of Flask an application with its table of paths. That is here,
under Flask's names, in the process that runs moto alone. Moto's API Gateway, which its
CloudFormation imports whatever a template holds, imports a validator for two of its calls: they
find it when they are made.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.local import LocalProxy
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response as WerkzeugResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_VALIDATOR = "openapi_spec_validator"
_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_request: ContextVar[Any] = ContextVar("request")


class Response(WerkzeugResponse):
    """An answer as Flask makes it."""

    default_mimetype = "text/html"
    autocorrect_location_header = False


class Application:
    """The part of ``flask.Flask`` that moto uses: it makes one for each of its services."""

    def __init__(self, *_: Any, **__: Any) -> None:
        #: Moto sets these, by Flask's names.
        self.url_map: Any = None
        self.request_class: Any = WerkzeugRequest
        self.view_functions: dict[str, Callable[..., Any]] = {}
        self.shares_with_any_origin = False

    def add_url_rule(
        self, rule: str, *, endpoint: str, view_func: Callable[..., Any], **options: Any
    ) -> None:
        from werkzeug.routing import Rule

        self.url_map.add(Rule(rule, endpoint=endpoint, **options))
        self.view_functions[endpoint] = view_func

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = self.request_class(environ)
        token = _request.set(request)
        try:
            try:
                endpoint, arguments = self.url_map.bind_to_environ(environ).match()
                response = self.view_functions[endpoint](**arguments)
            except HTTPException as error:
                response = error.get_response(environ)
            if self.shares_with_any_origin:
                share_with_any_origin(request, response)
            return list(response(environ, start_response))
        finally:
            _request.reset(token)


def share_with_any_origin(request: Any, response: Any) -> None:
    """The headers of ``flask_cors.CORS`` with its own defaults: https://fetch.spec.whatwg.org/#http-cors-protocol"""
    headers = response.headers
    if "Access-Control-Allow-Origin" in headers:
        return  # the service's own
    headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
    if "Origin" in request.headers:
        headers.add("Vary", "Origin")
    method = request.headers.get("Access-Control-Request-Method", "").upper()
    if request.method == "OPTIONS" and method in _METHODS.split(", "):
        headers["Access-Control-Allow-Methods"] = _METHODS
        if wanted := request.headers.get("Access-Control-Request-Headers"):
            headers["Access-Control-Allow-Headers"] = wanted


def _share(application: Application) -> None:
    application.shares_with_any_origin = True


def without_flask() -> None:
    """Give what moto imports as Flask from here. For a process that runs moto and nothing else."""
    _stand_in("flask", Flask=Application, Request=WerkzeugRequest, Response=Response,
              request=LocalProxy(_request))  # fmt: skip
    _stand_in("flask.testing", FlaskClient=object)
    _stand_in("flask_cors", CORS=_share)


@contextmanager
def without_validator() -> Iterator[None]:
    """While moto's CloudFormation is imported, give it a validator that is imported on use."""
    names = (_VALIDATOR, f"{_VALIDATOR}.validation", f"{_VALIDATOR}.validation.exceptions")
    if any(name in sys.modules for name in names):
        yield
        return
    for name in names:
        _stand_in(name, validate=_validate, OpenAPIValidationError=InvalidDocumentError)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


class InvalidDocumentError(Exception):
    """The validator's error, which moto catches."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def _validate(document: Any) -> None:
    validator = importlib.import_module(_VALIDATOR)
    errors = importlib.import_module(f"{_VALIDATOR}.validation.exceptions")
    try:
        validator.validate(document)
    except errors.OpenAPIValidationError as error:
        raise InvalidDocumentError(str(getattr(error, "message", error))) from error


def _stand_in(name: str, **names: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
