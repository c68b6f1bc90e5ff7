"""What a REST API answers itself, and how its gateway responses shape that.

https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.events.http import HttpResponse, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.events.http import HttpRequest
    from twolane_local.model import RestApi

_TYPES: dict[str, tuple[int, str | None]] = {
    "ACCESS_DENIED": (403, "User is not authorized to access this resource"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, None),
    "BAD_REQUEST_BODY": (400, "Invalid request body"),
    "BAD_REQUEST_PARAMETERS": (400, None),
    "DEFAULT_5XX": (500, "Internal server error"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out"),
    "INVALID_API_KEY": (403, "Forbidden"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "QUOTA_EXCEEDED": (429, "Limit Exceeded"),
    "THROTTLED": (429, "Too Many Requests"),
    "UNAUTHORIZED": (401, "Unauthorized"),
}
#: Velocity does not run here: variables are replaced, nothing else.
_NAME = r"(context|stageVariables)\.([\w.-]*\w)"
_VARIABLE = re.compile(rf"\$(?:{_NAME}|\{{{_NAME}\}})")
_HEADER = "gatewayresponse.header."


def fault(kind: str, why: str, message: str | None = None, *, key: str = "message") -> HttpResponse:
    """The default answer of a type; ``why`` is for the log."""
    status, usual = _TYPES[kind]
    answer = json_response(status, {key: usual if message is None else message}, why)
    return replace(answer, fault=kind)


#: Real answers name the message so, with a capital letter, where an authorizer denies.
DENIED = fault("ACCESS_DENIED", "denied by policy", key="Message")
DENIED_EXPLICITLY = fault(
    "ACCESS_DENIED",
    "denied by policy",
    "User is not authorized to access this resource with an explicit deny",
    key="Message",
)
#: Above 10 MB the answer is no JSON, and gateway responses do not shape it. AWS's page has the
#: limits, the words are those that callers report.
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
TOO_LARGE = HttpResponse(
    413,
    (("content-type", "text; charset=utf-8"),),
    b"HTTP content length exceeded 10485760 bytes.",
    "the body is above 10 MB",
)
TOO_LONG = json_response(
    413, {"message": "Request Too Long"}, "the event is above the 6 MB that Lambda takes"
)


def shaped(
    response: HttpResponse, request: HttpRequest, api: RestApi, context: Mapping[str, Any]
) -> HttpResponse:
    """The answer as the API's gateway responses want it. A function's own is left alone."""
    if not response.fault:
        return response
    general = f"DEFAULT_{response.status // 100}XX"
    wanted = api.responses.get(response.fault) or api.responses.get(general)
    if wanted is None:
        return response
    message = next(iter(json.loads(response.body).values()), None)
    values: dict[str, Any] = {
        "stageVariables": context.get("stageVariables") or {},
        "context": {
            **context,
            "error": {
                "message": "" if message is None else message,
                "messageString": json.dumps(message),
                "responseType": response.fault,
                "validationErrorString": response.error or "",
            },
        },
    }
    headers = dict(response.headers)
    for name, value in (wanted.get("responseParameters") or {}).items():
        text = _mapped(str(value), request, values)
        if name.startswith(_HEADER) and text:
            headers[name.removeprefix(_HEADER).lower()] = text
    body = response.body
    templates: Mapping[str, Any] = wanted.get("responseTemplates") or {}
    if templates:
        kind = next((each for each in templates if each in request.header("accept")), None)
        kind = kind or next((each for each in templates if each == "application/json"), None)
        kind = kind or next(iter(templates))
        headers["content-type"] = kind
        body = _VARIABLE.sub(lambda match: _found(values, match), str(templates[kind])).encode()
    status = int(wanted.get("statusCode") or response.status)
    return replace(response, status=status, headers=tuple(headers.items()), body=body)


def _mapped(value: str, request: HttpRequest, values: Mapping[str, Any]) -> str:
    if value.startswith("'"):
        return value.strip("'")
    place, _, name = value.removeprefix("method.request.").partition(".")
    if value.startswith("method.request.header."):
        return request.header(name.lower())
    match = _VARIABLE.fullmatch(f"${place}.{name}")
    return _found(values, match) if match else ""


def _found(values: Mapping[str, Any], match: re.Match[str]) -> str:
    found: Any = values[match.group(1) or match.group(3)]
    for part in (match.group(2) or match.group(4)).split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return found if isinstance(found, str) else json.dumps(found)
