"""Request validators of REST APIs.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from twolane_local.gateway.rest_answers import fault

if TYPE_CHECKING:
    from twolane_local.events.http import HttpRequest, HttpResponse
    from twolane_local.model import RestMethod


def refusal(method: RestMethod, request: HttpRequest) -> HttpResponse | None:
    """The answer to a request that the method's validator refuses."""
    missing = [name for name in method.required if not _has(request, name)]
    if missing:
        names = ", ".join(name.partition(".")[2] for name in missing)
        message = f"Missing required request parameters: [{names}]"
        return fault("BAD_REQUEST_PARAMETERS", message, message)
    kind = request.header("content-type").partition(";")[0].strip().lower() or "application/json"
    schema = method.models.get(kind, method.models.get("$default"))
    why = _problem(schema, request.body) if schema is not None else None
    return None if why is None else fault("BAD_REQUEST_BODY", f"[{why}]")


def _has(request: HttpRequest, name: str) -> bool:
    place, _, key = name.partition(".")
    if place == "header":
        return bool(request.header(key.lower()))
    return key in parse_qs(request.query)


def _problem(schema: Any, body: bytes) -> str | None:
    # Imported here: few APIs have models.
    from jsonschema import Draft4Validator
    from jsonschema.exceptions import SchemaError, UnknownType
    from referencing.exceptions import Unresolvable

    try:
        value = json.loads(body)
        Draft4Validator.check_schema(schema)
        error = next(Draft4Validator(schema).iter_errors(value), None)
    except ValueError:
        return "the body is no JSON"
    except (Unresolvable, SchemaError, UnknownType, re.error) as problem:
        return f"the model cannot be read: {problem}"
    return None if error is None else error.message
