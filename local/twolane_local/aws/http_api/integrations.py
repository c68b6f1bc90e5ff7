"""Integrations of HTTP APIs: calls of other services, and parameter mapping.

A first-class integration turns a request into a call of another service, whose response is the
client's: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-aws-services.html
Parameter mapping changes requests and responses:
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-parameter-mapping.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.events.http import HttpResponse, json_response
from twolane_local.aws.events.http_v2 import access_log_time, join_duplicates
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.events.http import HttpRequest, RouteMatch

    Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _ServiceAction:
    """``required`` are the parameters that must be set; ``request`` makes body and headers."""

    service: str
    required: tuple[str, ...]
    request: Callable[[dict[str, str]], tuple[bytes, dict[str, str]]]


def _send_message(parameters: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """A call in the query protocol, as AWS answers in XML, which it does not document."""
    form = {"Action": "SendMessage", "Version": "2012-11-05", **parameters}
    for kind, prefix in (
        ("MessageAttributes", "MessageAttribute"),
        ("MessageSystemAttributes", "MessageSystemAttribute"),
    ):
        attributes: dict[str, Any] = json.loads(form.pop(kind, "{}"))
        for number, (name, value) in enumerate(attributes.items(), 1):
            form[f"{prefix}.{number}.Name"] = name
            form |= {f"{prefix}.{number}.Value.{key}": str(item) for key, item in value.items()}
    return urlencode(form).encode(), {"content-type": "application/x-www-form-urlencoded"}


def _put_events(parameters: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    entry: dict[str, Any] = dict(parameters)
    if "Resources" in entry:
        entry["Resources"] = json.loads(entry["Resources"])
    if "Time" in entry:
        entry["Time"] = datetime.fromisoformat(entry["Time"]).timestamp()
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "AWSEvents.PutEvents",
        # Signed with dummy credentials: the scope selects the service.
        "authorization": f"AWS4-HMAC-SHA256 Credential=local/20200101/{REGION}/events/aws4_request,"
        " SignedHeaders=host, Signature=0",
    }
    return json.dumps({"Entries": [entry]}).encode(), headers


#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-aws-services-reference.html
_ACTIONS = {
    "SQS-SendMessage": _ServiceAction("sqs", ("QueueUrl", "MessageBody"), _send_message),
    "EventBridge-PutEvents": _ServiceAction(
        "events", ("Detail", "DetailType", "Source"), _put_events
    ),
}


async def call_service(
    subtype: str,
    mapping: Mapping[str, Any],
    values: ParameterValues,
    services: Mapping[str, AwsService],
    request_id: str,
) -> HttpResponse:
    """Call the service for one request."""
    action = _ACTIONS[subtype]
    service = services.get(action.service)
    if service is None:
        why = f"{subtype} needs `twolane up`: there is no {action.service} here"
        return json_response(501, {"message": f"twolane: {why}"}, why)
    given = {name: values(str(text)) for name, text in mapping.items() if name != "Region"}
    parameters = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in action.required if not parameters.get(name)]
    if missing:
        # AWS does not document this response.
        why = f"{subtype} needs {missing[0]}, and the request has no value for it"
        return json_response(400, {"message": "Bad Request"}, why)
    try:
        body, headers = action.request(parameters)
    except (ValueError, AttributeError) as error:
        why = f"a parameter of {subtype} is malformed: {error}"
        return json_response(400, {"message": "Bad Request"}, why)
    answer = await service(
        AwsRequest(
            "POST", "/", headers=headers, body=body, service=action.service, request_id=request_id
        )
    )
    content_type = answer.headers.get("content-type", "application/x-amz-json-1.1")
    text = answer.body.decode("utf-8", "replace")
    problem = f"{subtype}: {text}" if answer.status >= 400 else None
    return HttpResponse(answer.status, (("content-type", content_type),), answer.body, problem)


_WHOLE = re.compile(r"\$((?:request|response|context|stageVariables)\.[^\s{}$]+)")
_PART = re.compile(r"\$\{((?:request|response|context|stageVariables)\.[^}]+)\}")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\['([^']+)'\]")
#: A path in a longer body is looked up in its beginning only.
_MOST_BODY = 100 * 1024


class ParameterValues:
    """Evaluates ``$request.header.name``, ``${context.requestId}`` and the like."""

    def __init__(
        self, request: HttpRequest, match: RouteMatch, response: HttpResponse | None = None
    ) -> None:
        self._request = request
        self._match = match
        self._response = response

    def __call__(self, text: str) -> str | None:
        """The text with its variables replaced; ``None`` if it is one variable without a value."""
        whole = _WHOLE.fullmatch(text) or _PART.fullmatch(text)
        if whole:
            return self._value(whole[1])
        return _PART.sub(lambda match: self._value(match[1]) or "", text)

    def _value(self, path: str) -> str | None:
        place, _, rest = path.partition(".")
        if place == "stageVariables":
            return self._match.stage_variables.get(rest)
        if place == "context":
            return self._context(rest)
        kind, _, name = rest.partition(".")
        if rest.startswith("body"):
            kind, name = "body", rest.removeprefix("body")
        if place == "response":
            return self._of_response(kind, name)
        return self._of_request(kind, name)

    def _of_request(self, kind: str, name: str) -> str | None:
        request = self._request
        if kind == "header":
            return join_duplicates(request.headers).get(name.lower())
        if kind == "querystring":
            return join_duplicates(parse_qsl(request.query, keep_blank_values=True)).get(name)
        if kind == "path":
            return self._match.parameters.get(name) if name else request.path
        return _in_body(request.body, name) if kind == "body" else None

    def _of_response(self, kind: str, name: str) -> str | None:
        if self._response is None:
            return None
        if kind == "header":
            return join_duplicates(self._response.headers).get(name.lower())
        return _in_body(self._response.body, name) if kind == "body" else None

    def _context(self, name: str) -> str | None:
        """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html"""
        request, match = self._request, self._match
        head, _, rest = name.partition(".")
        if head == "authorizer":
            return _text(_found(dict(match.authorizer or {}), rest))
        known = {
            "accountId": ACCOUNT,
            "apiId": match.api_id,
            "domainName": request.domain,
            "domainPrefix": request.domain.partition(".")[0],
            "extendedRequestId": request.request_id,
            "httpMethod": request.method,
            "identity.sourceIp": request.source_ip,
            "identity.userAgent": request.header("user-agent"),
            "path": request.path if match.stage == "$default" else f"/{match.stage}{request.path}",
            "protocol": request.protocol,
            "requestId": request.request_id,
            "requestTime": access_log_time(request.time_ms),
            "requestTimeEpoch": str(request.time_ms // 1000),
            "routeKey": match.route_key,
            "stage": match.stage,
        }
        return known.get(name)


def _in_body(body: bytes, path: str) -> str | None:
    if not path:
        return body.decode("utf-8", "replace")
    try:
        return _text(_found(json.loads(body[:_MOST_BODY]), path))
    except ValueError:
        return None


def _found(value: Any, path: str) -> Any:
    """The value at a JSON path without filters, ``None`` if there is none."""
    for name, index, quoted in _STEP.findall(path):
        try:
            value = value[int(index)] if index else value[name or quoted]
        except (LookupError, TypeError):
            return None
    return value


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def mapped_request(
    request: HttpRequest, mapping: Mapping[str, str], values: ParameterValues
) -> tuple[HttpRequest, str | None]:
    """The request for the integration, and its path if the mapping overwrites it."""
    headers: Pairs = request.headers
    query: Pairs = tuple(parse_qsl(request.query, keep_blank_values=True))
    path: str | None = None
    for action, place, name, value in _changes(mapping, values):
        if place == "header":
            headers = _changed(headers, action, name.lower(), value)
        elif place == "querystring":
            query = _changed(query, action, name, value)
        elif place == "path" and value is not None:
            path = "/" + value.removeprefix("/")
    same = query == tuple(parse_qsl(request.query, keep_blank_values=True))
    text = request.query if same else urlencode(query)
    return replace(request, headers=headers, query=text, cased_names=()), path


def mapped_response(
    response: HttpResponse,
    by_status: Mapping[str, Any],
    values: Callable[[HttpResponse], ParameterValues],
) -> HttpResponse:
    """The response for the client, changed by the mapping for its status."""
    given = by_status.get(str(response.status))
    if not given:
        return response
    headers, status = response.headers, response.status
    for action, place, name, value in _changes(_plain(given), values(response)):
        if place == "header":
            headers = _changed(headers, action, name.lower(), value)
        elif place == "statuscode" and value is not None and value.isdecimal():
            status = int(value)
    return replace(response, headers=headers, status=status)


def _plain(given: Any) -> Mapping[str, str]:
    """A mapping as a map; CloudFormation resources have a list of sources and destinations."""
    listed = given.get("ResponseParameters")
    if not isinstance(listed, list):
        return {name: str(value) for name, value in given.items()}
    return {str(item["Destination"]): str(item["Source"]) for item in listed}


def _changes(
    mapping: Mapping[str, str], values: ParameterValues
) -> Iterator[tuple[str, str, str, str | None]]:
    for key, text in mapping.items():
        action, _, rest = key.partition(":")
        place, _, name = rest.partition(".")
        value = None if action == "remove" else values(str(text))
        if action == "remove" or value is not None:
            yield action, place, name, value


def _changed(pairs: Iterable[tuple[str, str]], action: str, name: str, value: str | None) -> Pairs:
    kept = tuple(pair for pair in pairs if action == "append" or pair[0] != name)
    return kept if value is None else (*kept, (name, value))
