"""A whole deferred lane in one process: Celery, SQS on moto, results in a real Redis or DynamoDB.

Time is virtual (time-machine): delays, back-off and visibility timeouts pass when a test says so.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import time
import urllib.request
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
import time_machine
from celery import Celery

from twolane import WorkerHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNT = "123456789012"
MAX_RECEIVE_COUNT = 3
VISIBILITY_S = 120


@pytest.fixture(scope="session")
def sqs(aws_server: str) -> Any:
    import boto3

    return boto3.client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=aws_server,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture(autouse=True)
def _celery_5_7_on_redis_8() -> None:
    """redis-py 8 deprecates a command that Celery 5.7 stores results with."""
    warnings.filterwarnings("ignore", "Call to deprecated setex", DeprecationWarning)


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty account."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": aws_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with urllib.request.urlopen(
        urllib.request.Request(f"{aws_server}/moto-api/reset", method="POST")
    ):
        pass
    boto3.DEFAULT_SESSION = None
    return aws_server


@dataclass
class Context:
    """An invocation of a function with this timeout, on the virtual clock."""

    timeout_s: float = 60.0
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    began: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        return int((self.began + self.timeout_s - time.monotonic()) * 1000)


@dataclass
class Lane:
    """One task queue with its dead-letter queue, and one environment that works on it."""

    app: Celery
    sqs: Any
    traveller: Any
    url: str
    dead_url: str
    handler: WorkerHandler
    answers: list[dict[str, Any]] = field(default_factory=list)
    timeout_s: float = 60.0

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{self.url.rpartition('/')[2]}"

    def invoke(self) -> int:
        """One poll of the event source mapping; how many messages it found."""
        messages = self.sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        if not messages:
            return 0
        answer = self.handler(to_event(messages, self.arn), Context(self.timeout_s))
        self.answers.append(answer)
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        for message in messages:
            if message["MessageId"] not in failed:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return len(messages)

    def drain(self, limit: int = 200) -> None:
        """Poll until nothing is visible now; time all but stands still."""
        for _ in range(limit):
            if not self.invoke():
                return
            # A message that was made visible at this very instant is so from the next one on.
            self.pass_time(0.001)
        raise AssertionError(f"the queue was not empty after {limit} polls")

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, polling each second."""
        self.drain()
        until = time.time() + seconds
        while time.time() < until:
            self.pass_time(step)
            self.drain()

    def pass_time(self, seconds: float) -> None:
        self.traveller.shift(seconds)

    def counts(self, url: str | None = None) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)
        visible, hidden, delayed = (int(found["Attributes"][name]) for name in names)
        return visible, hidden, delayed

    @property
    def is_empty(self) -> bool:
        return self.counts() == (0, 0, 0)

    def dead_letters(self) -> list[str]:
        found = self.sqs.receive_message(QueueUrl=self.dead_url, MaxNumberOfMessages=10)
        return [message["Body"] for message in found.get("Messages", [])]


def to_event(messages: list[dict[str, Any]], arn: str) -> dict[str, Any]:
    """What Lambda makes of received messages."""
    shapes = {"StringValue": "stringValue", "BinaryValue": "binaryValue", "DataType": "dataType"}
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {
                    name: {shapes[key]: value for key, value in attribute.items()}
                    for name, attribute in message.get("MessageAttributes", {}).items()
                },
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
                "awsRegion": "us-east-1",
            }
            for message in messages
        ]
    }


def create_queue(sqs: Any, name: str) -> tuple[str, str]:
    """A task queue and its dead-letter queue, as a template would make them."""
    dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    policy = (
        f'{{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}-dead",'
        f'"maxReceiveCount":"{MAX_RECEIVE_COUNT}"}}'
    )
    attributes = {"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": policy}
    return sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], dead


def create_table() -> None:
    import boto3

    boto3.client("dynamodb").create_table(
        TableName="results",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture
def clock() -> Iterator[Any]:
    """Time that stands still until it is shifted."""
    with time_machine.travel(1_800_000_000.0, tick=False) as traveller:
        yield traveller


@pytest.fixture(params=["redis", pytest.param("dynamodb", marks=pytest.mark.slow)])
def results(request: pytest.FixtureRequest, aws: str) -> str:
    """A result backend: every test runs on each."""
    if request.param == "redis":
        return cast("str", request.getfixturevalue("redis_url"))
    create_table()
    return "dynamodb://@us-east-1/results?ttl_seconds=86400"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On DynamoDB only the canvas runs in every mode: the store sees no difference."""

    def is_chosen(item: pytest.Item) -> bool:
        params = getattr(getattr(item, "callspec", None), "params", {})
        twice = params.get("results") == "dynamodb" and params.get("mode", "solo") != "solo"
        return not twice or item.path.name == "test_canvas.py"

    items[:] = [item for item in items if is_chosen(item)]


@pytest.fixture(
    params=[
        "solo",
        pytest.param("threads", marks=pytest.mark.slow),
        pytest.param("coroutine", marks=pytest.mark.slow),
    ]
)
def mode(request: pytest.FixtureRequest) -> str:
    """How tasks run: one after the other, on threads, or rewritten to ``async def``."""
    return cast("str", request.param)


def as_coroutines(decorator: Any) -> Any:
    """``app.task`` that makes an ``async def`` task of each function."""

    def rewritten(fun: Any) -> Any:
        @functools.wraps(fun)
        async def body(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            value = fun(*args, **kwargs)
            await asyncio.sleep(0)
            return value

        vars(body)["__signature__"] = inspect.signature(fun)  # Celery asks how many it takes
        return body

    def task(*args: Any, **options: Any) -> Any:
        if options.get("name", "").startswith("celery."):
            return decorator(*args, **options)
        if args and callable(args[0]):
            return decorator(rewritten(args[0]), **options)
        return lambda fun: decorator(*args, **options)(rewritten(fun))

    return task


@pytest.fixture
def app(aws: str, results: str, clock: Any, mode: str) -> Iterator[Celery]:
    """An application as its author writes it; a test adds tasks, then asks for ``lane``."""
    app = Celery("semantics", set_as_current=False)
    if mode == "threads":
        app.conf.update(worker_pool="threads", worker_concurrency=4)
    elif mode == "coroutine":
        app.task = as_coroutines(app.task)
    app.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": f"{aws}/{ACCOUNT}/tasks"}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        result_backend=results,
        result_extended=True,
    )
    app.set_current()
    yield app
    app.close()
    if results.startswith("redis"):
        cast("Any", app.backend).client.connection_pool.disconnect()


@pytest.fixture
def lane(app: Celery, clock: Any, sqs: Any) -> Callable[..., Lane]:
    """Start an environment; each call is one more, on the same queue."""
    urls = create_queue(sqs, "tasks")

    def start(**options: Any) -> Lane:
        return Lane(app, sqs, clock, *urls, WorkerHandler(app, environ=os.environ, **options))

    return start
