"""Responses that a gateway makes itself: errors, usage plans, request validation.

A REST API may customise its errors, which AWS calls gateway responses:
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-gatewayResponse-definition.html
Usage plans: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans.html
Request validation: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from twolane_local.aws.events.http import HttpResponse, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.events.http import HttpRequest
    from twolane_local.clock import Clock
    from twolane_local.model import ApiKey, RestApi, RestMethod, RouteSpec, UsagePlan


_TENANT = "integration.request.header.x-amz-tenant-id"


def tenant_of(route: RouteSpec, event: Mapping[str, Any]) -> str:
    """The tenant that a method of a REST API maps from its request, empty without a mapping.

    https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-invoke.html
    https://docs.aws.amazon.com/apigateway/latest/developerguide/rest-api-parameter-mapping.html
    """
    mapping = (route.options.get("integration") or {}).get("requestParameters") or {}
    source = next((str(mapping[name]) for name in mapping if name.lower() == _TENANT), "")
    if not source:
        return ""
    if source.startswith("'"):
        return source.strip("'")
    for prefix, found in (
        ("method.request.header.", event.get("headers")),
        ("method.request.querystring.", event.get("queryStringParameters")),
        ("method.request.path.", event.get("pathParameters")),
        ("context.authorizer.", event["requestContext"].get("authorizer")),
        ("stageVariables.", event.get("stageVariables")),
    ):
        if source.startswith(prefix):
            wanted = source.removeprefix(prefix)
            same = {name.lower(): value for name, value in (found or {}).items()}
            return str(same.get(wanted.lower()) or "")
    return ""


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
#: The emulator does not run Velocity: it replaces variables, nothing else.
_NAME = r"(context|stageVariables)\.([\w.-]*\w)"
_VARIABLE = re.compile(rf"\$(?:{_NAME}|\{{{_NAME}\}})")
_HEADER = "gatewayresponse.header."


def gateway_error(
    kind: str, why: str, message: str | None = None, *, key: str = "message"
) -> HttpResponse:
    """The default gateway response of a type; ``why`` is for the log."""
    status, usual = _TYPES[kind]
    answer = json_response(status, {key: usual if message is None else message}, why)
    return replace(answer, fault=kind)


#: When an authorizer denies, AWS spells the key of the message with a capital letter.
DENIED = gateway_error("ACCESS_DENIED", "denied by policy", key="Message")
DENIED_EXPLICITLY = gateway_error(
    "ACCESS_DENIED",
    "denied by policy",
    "User is not authorized to access this resource with an explicit deny",
    key="Message",
)
#: Above 10 MB the response is not JSON and cannot be customised. AWS documents the limit; the text
#: is the one that callers report.
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


def customised(
    response: HttpResponse, request: HttpRequest, api: RestApi, context: Mapping[str, Any]
) -> HttpResponse:
    """The response as the API customises it; the response of a function is returned as it is."""
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


class UsagePlans:
    """Counts the requests of each API key against its usage plan."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str], int] = {}
        #: The tokens in a key's bucket, and the time of that count.
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, method: RestMethod, given: str) -> ApiKey | HttpResponse:
        """Count a request with this value of a key; returns the key, or the refusal."""
        keys = method.api.keys
        key = next((each for each in keys if given and each.value == given), None)
        if key is None:
            known = f"send x-api-key: {keys[0].value}" if keys else "no usage plan has a key"
            return gateway_error(
                "INVALID_API_KEY", f"{'an unknown' if given else 'no'} API key; {known}"
            )
        if not self._within_rate(key):
            return gateway_error(
                "THROTTLED", f"{key.plan.name} allows {key.plan.rate:g} requests/s"
            )
        period = (key.id, _period(key.plan, self._clock.time()))
        count = self._counts.get(period, 0)
        if key.plan.limit is not None and count >= key.plan.limit:
            why = f"{key.plan.name} allows {key.plan.limit} requests in a {key.plan.period.lower()}"
            return gateway_error("QUOTA_EXCEEDED", why)
        self._counts[period] = count + 1
        return key

    def _within_rate(self, key: ApiKey) -> bool:
        if key.plan.rate is None:
            return True
        now, most = self._clock.time(), max(float(key.plan.burst), 1.0)
        tokens, since = self._buckets.get(key.id, (most, now))
        tokens = min(most, tokens + (now - since) * key.plan.rate)
        allowed = tokens >= 1.0
        self._buckets[key.id] = (tokens - allowed, now)
        return allowed


def _period(plan: UsagePlan, now: float) -> str:
    """The name of a quota's period, which begins at midnight UTC."""
    form = {"WEEK": "%G-%V", "MONTH": "%Y-%m"}.get(plan.period.upper(), "%Y-%m-%d")
    return time.strftime(form, time.gmtime(now))


def validation_error(method: RestMethod, request: HttpRequest) -> HttpResponse | None:
    """The response to a request that the method's validator refuses, else ``None``."""
    missing = [name for name in method.required if not _has(request, name)]
    if missing:
        names = ", ".join(name.partition(".")[2] for name in missing)
        message = f"Missing required request parameters: [{names}]"
        return gateway_error("BAD_REQUEST_PARAMETERS", message, message)
    kind = request.header("content-type").partition(";")[0].strip().lower() or "application/json"
    schema = method.models.get(kind, method.models.get("$default"))
    why = _problem(schema, request.body) if schema is not None else None
    return None if why is None else gateway_error("BAD_REQUEST_BODY", f"[{why}]")


def _has(request: HttpRequest, name: str) -> bool:
    place, _, key = name.partition(".")
    if place == "header":
        return bool(request.header(key.lower()))
    return key in parse_qs(request.query)


def _problem(schema: Any, body: bytes) -> str | None:
    # Imported here: few APIs have models.
    from jsonschema import Draft4Validator
    from jsonschema.exceptions import SchemaError, UnknownType

    validator, unresolvable = _validator(Draft4Validator, schema)
    try:
        value = json.loads(body)
        Draft4Validator.check_schema(schema)
        error = next(validator.iter_errors(value), None)
    except ValueError:
        return "the body is not JSON"
    except (unresolvable, SchemaError, UnknownType, re.error) as problem:
        return f"the model cannot be read: {problem}"
    return None if error is None else error.message


def _validator(kind: Any, schema: Any) -> tuple[Any, type[Exception]]:
    """A validator that fetches nothing, and what it raises for a reference that leads nowhere."""
    try:
        from referencing.exceptions import Unresolvable
    except ImportError:
        # jsonschema before 4.18, which an application may have pinned, resolves by itself, from
        # anywhere: https://python-jsonschema.readthedocs.io/en/stable/referencing/
        from jsonschema import RefResolver
        from jsonschema.exceptions import RefResolutionError

        resolver = RefResolver.from_schema(schema, handlers=dict.fromkeys(("http", "https"), _away))
        return kind(schema, resolver=resolver), RefResolutionError
    return kind(schema), Unresolvable


def _away(address: str) -> None:
    raise LookupError(f"{address} is elsewhere")
