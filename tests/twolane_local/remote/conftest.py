"""A stack as boto3 sees it: CloudFormation, Lambda, logs and the rest by moto's server, SQS by our
own endpoint, whose receives, visibility and redrives are those that its tests hold against SQS.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.aws.sqs.service import QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.remote.account import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

DEAD, TASKS = "shop-dead", "shop-tasks"
CODE = {"ZipFile": "def handler(event, context): pass"}
ROLE = {"Fn::GetAtt": ["Role", "Arn"]}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole",
         "Principal": {"Service": "lambda.amazonaws.com"}},
    ],
}  # fmt: skip
TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
        "DeadLetters": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": DEAD}},
        "Tasks": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "QueueName": TASKS,
                "RedrivePolicy": {
                    "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]},
                    "maxReceiveCount": 2,
                },
            },
        },
        **{
            name: {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "FunctionName": f"shop-{name}", "Handler": "index.handler", "Role": ROLE,
                    "Runtime": "python3.12", "MemorySize": 512, "Timeout": 60, "Code": CODE,
                },
            }
            for name in ("Api", "Worker")
        },
        "Mapping": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": {"Fn::GetAtt": ["Tasks", "Arn"]},
                "FunctionName": {"Ref": "Worker"},
                "BatchSize": 5,
            },
        },
        "Nightly": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "Name": "shop-nightly", "ScheduleExpression": "cron(0 3 * * ? *)",
                "Targets": [{"Id": "one", "Arn": {"Fn::GetAtt": ["Api", "Arn"]}}],
            },
        },
        "Results": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "shop-results", "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            },
        },
    }
}  # fmt: skip


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI app on a free port; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    started = threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:  # uvicorn offers no event for it
            await asyncio.sleep(0.005)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass
class Sqs:
    """Our queue service behind its API; ``calls`` are the names of the actions, in order."""

    queues: QueueService = field(
        default_factory=lambda: QueueService(SystemClock(), Journal(SystemClock()))
    )
    calls: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    #: So many calls of an action are answered before it breaks.
    breaks_after: dict[str, int] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while True:
            part = await receive()
            body += part["body"]
            if not part.get("more_body"):
                break
        action = headers["x-amz-target"].rpartition(".")[2]
        self.calls.append(action)
        status, content, found = 400, b'{"__type": "AccessDenied", "message": "no"}', {}
        if self.calls.count(action) > self.breaks_after.get(action, 1_000_000):
            self.broken.add(action)
        if action not in self.broken:
            request = AwsRequest("POST", "/", "", headers, body, "sqs", "us-east-1", "r-1")
            answer = await SqsApi(self.queues)(request)
            status, content, found = answer.status, answer.body, dict(answer.headers)
        sent = [(name.encode(), value.encode()) for name, value in found.items()]
        sent.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="session")
def moto(aws_server: str) -> str:
    return aws_server


@pytest.fixture
def stack(moto: str) -> str:
    """The literal stack, there for all tests; its name."""
    import boto3

    make: Any = boto3.client
    client = make(
        "cloudformation", endpoint_url=moto, region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    # Any test that mocks AWS in this process makes moto forget what was there.
    if not client.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"]:
        client.create_stack(StackName="shop", TemplateBody=json.dumps(TEMPLATE))
    return "shop"


@pytest.fixture(scope="session")
def endpoint() -> Iterator[tuple[Sqs, str]]:
    sqs = Sqs()
    with served(sqs) as url:
        yield sqs, url


@pytest.fixture
def sqs(own_environ: None, moto: str, endpoint: tuple[Sqs, str]) -> Sqs:
    """The stack's queues, empty; boto3 finds both endpoints in the environment."""
    sqs, url = endpoint
    sqs.__init__()  # type: ignore[misc]
    arn = sqs.queues.create(DEAD, {}).arn
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    sqs.queues.create(TASKS, {"RedrivePolicy": policy, "VisibilityTimeout": "0"})
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ENDPOINT_URL=moto, AWS_ENDPOINT_URL_SQS=url, AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_DEFAULT_REGION="us-east-1",
    )  # fmt: skip
    return sqs


@pytest.fixture(scope="session")
def accounts() -> dict[str, Account]:
    """boto3's clients take a tenth of a second each: one set for all tests."""
    return {}


@pytest.fixture
def account(sqs: Sqs, stack: str, accounts: dict[str, Account]) -> Account:
    if "one" not in accounts:
        accounts["one"] = Account()
    return accounts["one"]
