"""The endpoint as its clients see it: boto3 and Celery's own transport over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import boto3
import pytest
import uvicorn
from botocore.config import Config
from botocore.exceptions import ClientError

from twolane_local.aws.call import AwsResponse
from twolane_local.aws.endpoint import AwsEndpoint, service_of
from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec


class Echo:
    async def invoke(
        self, function, event, *, request_id=None, client_context="", trace_headers=()
    ):
        return Invocation(request_id, event, log_tail=lambda: b"a line\n")


async def fallback(scope, receive, send):
    """Takes the place of moto, and answers with the request that reached it."""
    body = json.dumps({"fallback": scope["path"]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def scheduler(request):
    return AwsResponse(200, json.dumps({"scheduler": request.path}).encode())


class Server:
    """The endpoint on a free port, its loop in a thread, until ``close``."""

    def __init__(self):
        self.clock = SystemClock()
        journal = Journal(self.clock)
        self.queues = QueueService(self.clock, journal)
        functions = {"f": FunctionSpec("f", "F", "app.handler", Path())}
        invocations = AsyncInvocations(Echo(), functions, self.queues, self.clock, journal)
        self.app = AwsEndpoint(
            self.queues, Echo(), fallback=fallback, functions=functions,
            asynchronous=invocations, mounts={"scheduler": scheduler},
        )  # fmt: skip
        config = uvicorn.Config(self.app, port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve()))
        self.thread.start()
        self.started.wait(10)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    async def serve(self):
        serving = asyncio.create_task(self.server.serve())
        while not self.server.started:  # uvicorn offers no event for it
            await asyncio.sleep(0.005)
        self.started.set()
        await serving

    def client(self, service):
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}),
        )  # fmt: skip

    def close(self):
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def shared():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared):
    yield shared
    for name in shared.queues.names():
        shared.queues.delete_queue(name, name_is_free=True)


@pytest.fixture
def sqs(server):
    client = server.client("sqs")
    yield client
    client.close()


def test_boto3_sends_receives_and_deletes(sqs):
    """boto3 checks the digests of the messages that it sends and receives."""
    url = sqs.create_queue(QueueName="q", tags={"a": "b"})["QueueUrl"]
    assert sqs.get_queue_url(QueueName="q")["QueueUrl"] == url
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    attributes = {
        "text": {"DataType": "String", "StringValue": "grüße"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = sqs.send_message(QueueUrl=url, MessageBody="body \r\n😀", MessageAttributes=attributes)
    (received,) = sqs.receive_message(
        QueueUrl=url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )["Messages"]
    assert received["MessageId"] == sent["MessageId"]
    assert received["Body"] == "body \r\n😀"
    assert received["MessageAttributes"] == attributes
    assert received["Attributes"]["ApproximateReceiveCount"] == "1"
    sqs.change_message_visibility(
        QueueUrl=url, ReceiptHandle=received["ReceiptHandle"], VisibilityTimeout=0
    )
    (again,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_the_trace_header_of_a_request_stays_on_its_messages(sqs, monkeypatch):
    """botocore sends it from within a function; the header of the message takes precedence.

    https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html
    """
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    header, own = "Root=1-5;Sampled=0;Lineage=a:1|b:0", "Root=1-6"
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", header)
    sent = sqs.send_message(QueueUrl=url, MessageBody="1")
    assert "MD5OfMessageSystemAttributes" not in sent, "the caller has sent none"
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "2", "MessageBody": "2"}])
    attribute = {"AWSTraceHeader": {"DataType": "String", "StringValue": own}}
    sqs.send_message(QueueUrl=url, MessageBody="3", MessageSystemAttributes=attribute)
    found = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["AWSTraceHeader"]
    )["Messages"]
    traces = {each["Body"]: each["Attributes"]["AWSTraceHeader"] for each in found}
    assert traces == {"1": header, "2": header, "3": own}


def test_boto3_batches(sqs):
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(10)]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 10
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    handles = [
        {"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(received)
    ]
    assert len(sqs.delete_message_batch(QueueUrl=url, Entries=handles)["Successful"]) == 10


def test_boto3_gets_the_errors_that_it_knows(sqs):
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as gone:
        sqs.get_queue_url(QueueName="nowhere")
    assert gone.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    url = sqs.create_queue(QueueName="brief")["QueueUrl"]
    with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="x")
    with pytest.raises(sqs.exceptions.EmptyBatchRequest):
        sqs.send_message_batch(QueueUrl=url, Entries=[])
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=99)
    sqs.purge_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.PurgeQueueInProgress):
        sqs.purge_queue(QueueUrl=url)
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDeletedRecently):
        sqs.create_queue(QueueName="brief")


def test_boto3_pages_through_queues(sqs):
    for number in range(5):
        sqs.create_queue(QueueName=f"q{number}")
    pages = sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 2})
    names = [[url.rpartition("/")[2] for url in page["QueueUrls"]] for page in pages]
    assert names == [["q0", "q1"], ["q2", "q3"], ["q4"]]


def test_a_long_poll_ends_with_a_message_that_another_client_sends(sqs, server):
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    timer = threading.Timer(0.1, server.queues.send, ("q", NewMessage("x")))
    timer.start()
    received = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    timer.join()
    assert received[0]["Body"] == "x"


def test_a_long_poll_of_a_client_that_went_takes_no_message(server):
    server.queues.create("q")
    host, _, port = server.url.removeprefix("http://").partition(":")
    body = json.dumps({"QueueUrl": f"{server.url}/123456789012/q", "WaitTimeSeconds": 20}).encode()
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body)
        waiters = until(lambda: server.queues.waiting("q"))
        assert waiters == 1
    until(lambda: not server.queues.waiting("q"))
    server.queues.send("q", NewMessage("x"))
    assert server.queues.refreshed("q").count("visible") == 1


def until(condition):
    """The result of ``condition`` once it is true; the server runs on its own thread."""
    deadline = time.monotonic() + 10
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.005)
    return found


def test_an_unsigned_call_of_the_older_protocol(server):
    server.queues.create("q")
    form = b"Action=SendMessage&MessageBody=hello"
    with urllib.request.urlopen(f"{server.url}/123456789012/q", form, 10) as answer:
        assert b"<SendMessageResult>" in answer.read()
    with urllib.request.urlopen(f"{server.url}/123456789012/q?Action=ReceiveMessage") as answer:
        assert b"<Body>hello</Body>" in answer.read()


def test_kombu_sends_and_consumes(server):
    """Celery's own SQS transport, as a stock worker and publisher use it."""
    from kombu import Connection

    host, _, port = server.url.removeprefix("http://").partition(":")
    server.queues.create("tasks")
    options = {
        "region": "us-east-1",
        "is_secure": False,
        "predefined_queues": {
            "tasks": {
                "url": f"{server.url}/123456789012/tasks",
                "access_key_id": "test",
                "secret_access_key": "test",
            }
        },
        "wait_time_seconds": 1,
    }
    with Connection(f"sqs://test:test@{host}:{port}", transport_options=options) as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put({"hello": "world"})
        assert server.queues.refreshed("tasks").count("visible") == 1
        message = queue.get(timeout=10)
        assert message.payload == {"hello": "world"}
        message.ack()
        queue.close()
    assert len(server.queues.refreshed("tasks")) == 0


APP = """
import os
from celery import Celery
url = os.environ["QUEUE_URL"]
app = Celery("app", broker="sqs://")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1", "predefined_queues": {"tasks": {"url": url}}, "wait_time_seconds": 5,
    },
    task_default_queue="tasks", worker_enable_remote_control=False, worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
)
@app.task
def done(number):
    print("done", number, flush=True)
"""


@pytest.mark.slow
def test_a_stock_celery_worker_consumes_what_a_stock_publisher_sends(server, tmp_path):
    """Its transport polls by an HTTP client of its own, many messages at a time."""
    (tmp_path / "app.py").write_text(APP)
    server.queues.create("tasks", {"VisibilityTimeout": "60"})
    environ = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "QUEUE_URL": f"{server.url}/123456789012/tasks",
    }
    send = (
        "from app import done\n"
        "for n in range(30): done.delay(n)\n"
        "done.apply_async((30,), countdown=1)"
    )
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=environ, check=True, timeout=60)
    assert len(server.queues.refreshed("tasks")) == 31
    command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-P", "solo", "-l", "WARNING"]
    worker = subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert worker.stdout is not None
    watchdog = threading.Timer(60, worker.kill)
    watchdog.start()
    seen = set()
    for line in worker.stdout:
        if b"done " in line:
            seen.add(int(line.rpartition(b" ")[2]))
        if len(seen) == 31:
            break
    until(lambda: not len(server.queues.refreshed("tasks")))
    worker.kill()
    worker.communicate()
    watchdog.cancel()
    assert seen == set(range(31))


def test_boto3_invokes_a_function(server):
    with contextlib.closing(server.client("lambda")) as client:
        answer = client.invoke(FunctionName="f", Payload=b'{"n":1}', LogType="Tail")
        assert answer["Payload"].read() == b'{"n":1}'
        assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
        assert answer["LogResult"] == "YSBsaW5lCg=="
        assert client.invoke(FunctionName="f", InvocationType="Event")["StatusCode"] == 202
        assert client.invoke(FunctionName="f", InvocationType="DryRun")["StatusCode"] == 204
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.invoke(FunctionName="nowhere")


def test_everything_else_goes_on(server):
    with contextlib.closing(server.client("lambda")) as client:
        assert client.list_functions()["ResponseMetadata"]["HTTPStatusCode"] == 200
    with urllib.request.urlopen(f"{server.url}/bucket/key") as answer:
        assert json.load(answer) == {"fallback": "/bucket/key"}
    with contextlib.closing(server.client("scheduler")) as client:
        assert client.get_schedule(Name="x")["ResponseMetadata"]["HTTPStatusCode"] == 200


SIGNED = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/{}/aws4_request, SignedHeaders=host"


@pytest.mark.parametrize(
    ("headers", "path", "query", "service"),
    [
        ({"authorization": SIGNED.format("sqs")}, "/", "", "sqs"),
        ({"authorization": SIGNED.format("s3")}, "/123456789012/q", "Action=x", "s3"),
        ({"authorization": SIGNED.format("dynamodb")}, "/", "", "dynamodb"),
        ({}, "/", "X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fsqs%2Faws4_request", "sqs"),
        ({"x-amz-target": "AmazonSQS.SendMessage"}, "/", "", "sqs"),
        ({"host": "sqs.us-east-1.amazonaws.com"}, "/", "", "sqs"),
        ({"host": "us-east-1.queue.amazonaws.com"}, "/", "", "sqs"),
        ({"host": "localhost:4566"}, "/123456789012/q", "Action=SendMessage", "sqs"),
        ({"content-type": "application/x-www-form-urlencoded"}, "/123456789012/q.fifo", "", "sqs"),
        ({}, "/123456789012/q", "", ""),
        ({"content-type": "application/x-www-form-urlencoded"}, "/bucket/key", "", ""),
        ({"authorization": "Bearer x"}, "/", "", ""),
        ({}, "/", "X-Amz-Credential=", ""),
    ],
)
def test_whom_a_call_is_for(headers, path, query, service):
    assert service_of(headers, path, query)[0] == service


def test_a_body_beyond_every_limit_is_refused(server):
    request = urllib.request.Request(
        server.url, b"x" * (16 * 1024 * 1024 + 1), {"X-Amz-Target": "AmazonSQS.SendMessage"}
    )
    with pytest.raises((urllib.error.HTTPError, ConnectionError)) as refused:
        urllib.request.urlopen(request, timeout=20)
    if isinstance(refused.value, urllib.error.HTTPError):
        assert refused.value.code == 413
        refused.value.close()
