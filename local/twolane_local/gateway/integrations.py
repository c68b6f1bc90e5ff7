"""First-class integrations of HTTP APIs: a request becomes a call of another service's API.

What that service answers is the response, status and body.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-aws-services.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from twolane_local.events.http import HttpResponse, json_response
from twolane_local.template.values import REGION
from twolane_local.wire import AwsRequest, AwsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from twolane_local.gateway.parameters import Values
    from twolane_local.wire import AwsService

    Message = MutableMapping[str, Any]
    Asgi = Callable[
        [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
        Awaitable[None],
    ]


@dataclass(frozen=True, slots=True)
class _Call:
    """``required`` are the parameters that AWS asks for; ``made`` the call of the others."""

    service: str
    required: tuple[str, ...]
    made: Callable[[dict[str, str]], tuple[bytes, dict[str, str]]]


def _send_message(parameters: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """In the query protocol: its answer is XML, which AWS's pages do not say."""
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
        # Signed with dummy credentials: the scope says whose call it is.
        "authorization": f"AWS4-HMAC-SHA256 Credential=local/20200101/{REGION}/events/aws4_request,"
        " SignedHeaders=host, Signature=0",
    }
    return json.dumps({"Entries": [entry]}).encode(), headers


#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-aws-services-reference.html
_CALLS = {
    "SQS-SendMessage": _Call("sqs", ("QueueUrl", "MessageBody"), _send_message),
    "EventBridge-PutEvents": _Call("events", ("Detail", "DetailType", "Source"), _put_events),
}


async def called(
    subtype: str,
    mapping: Mapping[str, Any],
    values: Values,
    services: Mapping[str, AwsService],
    request_id: str,
) -> HttpResponse:
    """Make the call of one request."""
    call = _CALLS[subtype]
    service = services.get(call.service)
    if service is None:
        why = f"{subtype} needs `twolane up`: there is no {call.service} here"
        return json_response(501, {"message": f"twolane: {why}"}, why)
    given = {name: values(str(text)) for name, text in mapping.items() if name != "Region"}
    parameters = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in call.required if not parameters.get(name)]
    if missing:
        # AWS's pages do not say what it answers then.
        why = f"{subtype} needs {missing[0]}, and the request has no value for it"
        return json_response(400, {"message": "Bad Request"}, why)
    try:
        body, headers = call.made(parameters)
    except (ValueError, AttributeError) as error:
        why = f"a parameter of {subtype} does not have its form: {error}"
        return json_response(400, {"message": "Bad Request"}, why)
    answer = await service(
        AwsRequest(
            "POST", "/", headers=headers, body=body, service=call.service, request_id=request_id
        )
    )
    content_type = answer.headers.get("content-type", "application/x-amz-json-1.1")
    said = None if answer.status < 400 else f"{subtype}: {answer.body.decode('utf-8', 'replace')}"
    return HttpResponse(answer.status, (("content-type", content_type),), answer.body, said)


def over(app: Asgi) -> AwsService:
    """An ASGI application that plays a service, as the local services are called."""

    async def call(request: AwsRequest) -> AwsResponse:
        sent: list[Message] = []
        pending: list[Message] = [{"type": "http.request", "body": request.body}]
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
        }

        async def receive() -> Message:
            return pending.pop() if pending else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope, receive, send)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]
        }
        return AwsResponse(
            int(sent[0]["status"]), b"".join(each.get("body", b"") for each in sent[1:]), headers
        )

    return call
