"""What the template grants, and what the functions then call."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import pytest

from twolane_local import template
from twolane_local.aws.endpoint import AwsEndpoint, service_of
from twolane_local.template import stack
from twolane_local.template.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
ACCOUNT = "us-east-1:123456789012"
#: Batches are granted as their single action is:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
SINGLE = {
    "SendMessageBatch": "SendMessage",
    "DeleteMessageBatch": "DeleteMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
}
#: What the functions call of services that name their actions by method and path.
REST = {
    ("s3", "PUT"): "PutObject",
    ("s3", "GET"): "GetObject",
    ("s3", "HEAD"): "GetObject",
    ("s3", "DELETE"): "DeleteObject",
    ("scheduler", "POST"): "CreateSchedule",
    ("scheduler", "GET"): "GetSchedule",
    ("scheduler", "PUT"): "UpdateSchedule",
    ("scheduler", "DELETE"): "DeleteSchedule",
}


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One permission that somebody used: ``sqs:SendMessage`` on an ARN."""

    who: str
    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One action that a role allows, on the ARNs that match."""

    action: str
    resource: str

    def covers(self, call: Call) -> bool:
        return self.action == call.action and fnmatch.fnmatchcase(call.resource, self.resource)


@dataclass(slots=True)
class Expanded:
    """The template as deployed with these parameters, every name as the emulator has it."""

    loaded: template.Template
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.names = Names(
            self.loaded,
            aws_url="http://127.0.0.1:4566",
            base_url=lambda _: "http://127.0.0.1:3000",
            elsewhere=lambda name, attribute: f"{name}-{attribute}",
        )

    def properties(self, logical_id: str) -> dict[str, Any]:
        return dict(self.names.resolve(self.loaded.resources[logical_id].get("Properties") or {}))

    def of_type(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for logical_id, resource in self.loaded.resources.items():
            if resource["Type"] == kind:
                yield logical_id, self.properties(logical_id)

    def allowed(self, role: str) -> list[Statement]:
        """What the role's own statements allow; AWS's managed policies are not opened."""
        return [
            Statement(action, resource)
            for policy in self.properties(role).get("Policies", ())
            for statement in policy["PolicyDocument"]["Statement"]
            for action in _listed(statement["Action"])
            for resource in _listed(statement["Resource"])
        ]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@cache
def _loaded(parameters: frozenset[tuple[str, str]]) -> template.Template:
    return template.load(ROOT / "template.yaml", dict(parameters), stack_name="local")


def expanded(**parameters: str) -> Expanded:
    return Expanded(_loaded(frozenset(parameters.items())))


def built(**parameters: str) -> tuple[Any, list[str]]:
    """What the emulator makes of the template, and what it cannot."""
    loaded = _loaded(frozenset(parameters.items()))
    facts = stack.BuildContext(
        "http://127.0.0.1:4566",
        lambda _: "http://127.0.0.1:3000",
        lambda name, attribute: f"{name}-{attribute}",
    )
    return stack.build(loaded, facts)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[Call]:
    """Fills with what reaches the AWS endpoint of emulators started meanwhile."""
    seen: set[Call] = set()

    class Recording(AwsEndpoint):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            body = bytearray()

            async def hear() -> Any:
                message = await receive()
                body.extend(message.get("body", b""))
                return message

            await super().__call__(scope, hear, send)
            if scope["type"] == "http":
                seen.update(_calls(scope, bytes(body)))

    monkeypatch.setattr("twolane_local.emulator.AwsEndpoint", Recording)
    return seen


def _calls(scope: Mapping[str, Any], body: bytes) -> Iterator[Call]:
    headers = {
        key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]
    }
    who = headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
    query = scope["query_string"].decode()
    service, _ = service_of(headers, scope["path"], query)
    target = headers.get("x-amz-target", "").rpartition(".")[2]
    fields = _fields(headers, body) if service != "s3" else {}
    name = target or fields.get("Action") or REST.get((service, scope["method"]), "")
    if service == "ses":
        assert scope["path"] == "/v2/email/outbound-emails", scope["path"]
        name = "SendEmail"
    assert name, f"{who} called {service} in a way that is not known: {scope['path']}"
    action = f"{service}:{SINGLE.get(name, name)}"
    for resource in _resources(service, unquote(scope["path"]), fields):
        yield Call(who, action, resource)
    role = (fields.get("Target") or {}).get("RoleArn") if service == "scheduler" else None
    if role:
        yield Call(who, "iam:PassRole", role)


def _fields(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {key: values[0] for key, values in parse_qs(body.decode()).items()}
    fields: dict[str, Any] = json.loads(body or b"{}")
    return fields


def _resources(service: str, path: str, fields: Mapping[str, Any]) -> list[str]:
    if service == "sqs":
        return [f"arn:aws:sqs:{ACCOUNT}:{fields['QueueUrl'].rpartition('/')[2]}"]
    if service == "dynamodb":
        tables = [fields["TableName"]] if "TableName" in fields else list(fields["RequestItems"])
        return [f"arn:aws:dynamodb:{ACCOUNT}:table/{table}" for table in tables]
    if service == "s3":
        return [f"arn:aws:s3:::{path.lstrip('/')}"]
    if service == "scheduler":
        name = path.rpartition("/")[2]
        return [f"arn:aws:scheduler:{ACCOUNT}:schedule/{fields['GroupName']}/{name}"]
    if service == "ses":
        return [f"arn:aws:ses:{ACCOUNT}:identity/{fields['FromEmailAddress']}"]
    raise AssertionError(f"a call to {service}, which no role allows")
