"""SQS on moto's server, and a server that answers from a script."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from celery import Celery

from twolane.publish import batch, install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...conftest import Serve  # noqa: TID252

KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG"}


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment as Lambda gives it, the endpoint as the emulator gives it."""
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_SQS", "_X_AMZN_TRACE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    return aws_server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, a group is not taken for a slow one."""
    monkeypatch.setattr(batch, "SLOW_S", 60.0)


@dataclass
class Queue:
    """A queue on moto, read with boto3."""

    url: str
    client: Any

    def take(self, count: int = 10) -> list[dict[str, Any]]:
        """Receive and delete up to ``count`` visible messages."""
        got: list[dict[str, Any]] = []
        while len(got) < count:
            answer = self.client.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=0,
                AttributeNames=["All"], MessageAttributeNames=["All"],
            )  # fmt: skip
            if not answer.get("Messages"):
                break
            for message in answer["Messages"]:
                self.client.delete_message(
                    QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"]
                )
                got.append(message)
        return got

    def delayed(self) -> int:
        attributes = self.client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessagesDelayed"]
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessagesDelayed"])


@pytest.fixture(scope="session")
def sqs(aws_server: str) -> Iterator[Any]:
    """One client for all tests: making one takes longer than most of them."""
    client = boto3.client(
        "sqs", "us-east-1", endpoint_url=aws_server,
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
    )  # fmt: skip
    yield client
    client.close()


@pytest.fixture
def queue(aws: str, sqs: Any, request: pytest.FixtureRequest) -> Iterator[Queue]:
    name = f"tasks-{abs(hash(request.node.nodeid))}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    yield Queue(url, sqs)
    sqs.delete_queue(QueueUrl=url)


def celery_app(url: str, **options: Any) -> Celery:
    """A Celery application as the demonstration one is configured, with two tasks."""
    app = Celery("shop", broker="sqs://", set_as_current=False)
    app.conf.update(
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": url}},
            "sqs_base64_encoding": False,
            **options,
        },
        task_default_queue="tasks",
        task_ignore_result=True,
        broker_connection_retry_on_startup=False,
    )

    @app.task(name="shop.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="shop.total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    return app


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    """Celery applications on given queues, with the light publisher installed."""
    install()
    apps: list[Celery] = []

    def make(url: str, **options: Any) -> Celery:
        apps.append(celery_app(url, **options))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def app(queue: Queue, make_app: Callable[..., Celery]) -> Celery:
    return make_app(queue.url)


@dataclass
class Answer:
    """What the scripted server says to one request; ``None`` as status drops the connection."""

    status: int | None = 200
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Seen:
    """One request as it came over the wire."""

    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


class ScriptedSqs:
    """An HTTP server that answers from a script, then 200 with a message id."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.seen: list[Seen] = []
        #: Close each connection after its answer, without saying so.
        self.hang_up_after_answer = False
        self.hung_up = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append(Seen(headers, body, self.client_address[1]))
                answer = outer.script.pop(0) if outer.script else Answer(body={"MessageId": "m"})
                if answer.status is None:
                    self.close_connection = True
                    return
                payload = json.dumps(answer.body).encode()
                self.send_response(answer.status)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
                self.close_connection = outer.hang_up_after_answer

            def finish(self) -> None:
                super().finish()
                self.connection.close()
                outer.hung_up.set()

            def log_message(self, *args: object) -> None:
                return

        Handler.wbufsize = -1
        self.handler = Handler
        self.url = ""

    def will(self, status: int | None, **body: Any) -> None:
        """Say what the next request gets; ``None`` drops the connection without an answer."""
        self.script.append(Answer(status, body))


@pytest.fixture
def scripted(serve: Serve) -> Iterator[ScriptedSqs]:
    server = ScriptedSqs()
    with serve(server.handler) as address:
        server.url = f"http://{address}"
        yield server
