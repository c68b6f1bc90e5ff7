"""Response streaming, from a runtime of its own in a real process to the client.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from twolane_local.aws import guard
from twolane_local.aws.endpoint import AwsEndpoint
from twolane_local.aws.http_api.gateways import Gateway
from twolane_local.aws.invocation import ResponseStream
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.sqs.service import QueueService
from twolane_local.clock import SystemClock
from twolane_local.http.servers import HttpServer, bind
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, RouteSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Environment, Owner

BOOTSTRAP = """#!{python}
import base64, http.client, json, os, pathlib, time

api = os.environ["AWS_LAMBDA_RUNTIME_API"]
base = "/2018-06-01/runtime/invocation/"
INTEGRATION = "application/vnd.awslambda.http-integration-response"

def chunk(data):
    return b"%x\\r\\n%s\\r\\n" % (len(data), data)

while True:
    connection = http.client.HTTPConnection(api)
    connection.request("GET", base + "next")
    answer = connection.getresponse()
    event = json.loads(answer.read())
    path = base + answer.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    event = json.loads(event["body"]) if "body" in event else event
    if "whole" in event:
        connection.request("POST", path, json.dumps(event["whole"]))
        connection.getresponse().read()
        continue
    connection = http.client.HTTPConnection(api)
    connection.putrequest("POST", path)
    for header in ("Lambda-Runtime-Function-Response-Mode: streaming",
                   "Transfer-Encoding: chunked", "Content-Type: " + event.get("type", ""),
                   "Trailer: Lambda-Runtime-Function-Error-Type"):
        connection.putheader(*header.split(": "))
    connection.endheaders()
    if "head" in event:
        connection.send(chunk(json.dumps(event["head"]).encode() + bytes(8)))
    for piece in event["pieces"]:
        connection.send(chunk(piece.encode() * event.get("times", 1)))
        wait = pathlib.Path("go-on")
        while "wait" in event and not wait.exists():
            time.sleep(0.002)
    if "exit" in event:
        os._exit(event["exit"])
    end = b"0\\r\\n"
    if "fail" in event:
        body = json.dumps(dict(errorType=event["fail"], errorMessage="half-way")).encode()
        end += b"Lambda-Runtime-Function-Error-Type: %s\\r\\n" % event["fail"].encode()
        end += b"Lambda-Runtime-Function-Error-Body: %s\\r\\n" % base64.b64encode(body)
    connection.send(end + b"\\r\\n")
    connection.getresponse().read()
"""
HTTP = "application/vnd.awslambda.http-integration-response"


class Stage:
    """One function with that bootstrap, a function URL for it, and the AWS endpoint."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        (folder / "bootstrap").write_text(BOOTSTRAP.replace("{python}", sys.executable))
        (folder / "bootstrap").chmod(0o755)
        self.writers: list[asyncio.StreamWriter] = []
        clock = SystemClock()
        self.journal = Journal(clock)
        self.launcher = ForkLauncher()
        spec = FunctionSpec(
            "fn",
            "Fn",
            "bootstrap",
            folder,
            runtime="provided.al2023",
            **{"timeout_s": 10, **fields},
        )
        self.functions = Functions([spec], self.make, self.journal)
        route = RouteSpec("fn", kind="url", options={"invoke_mode": "RESPONSE_STREAM"})
        gateway = Gateway([route], self.functions, clock, self.journal)
        endpoint = AwsEndpoint(
            QueueService(clock, self.journal),
            self.functions,
            fallback=gateway,
            functions=self.functions.specs,
            asynchronous=None,  # type: ignore[arg-type]
        )
        self.url, self.aws = (HttpServer(app, bind(0, "")) for app in (gateway, endpoint))

    def make(self, spec: FunctionSpec, owner: Owner) -> Environment:
        environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")
        return IsolatedEnvironment(
            spec, environ, owner=owner, launcher=self.launcher, journal=self.journal
        )

    async def post(self, **event: Any) -> tuple[asyncio.StreamReader, str]:
        """A request to the function URL; returns the unread rest and the head."""
        body = json.dumps(event)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.url.port)
        self.writers.append(writer)
        writer.write(
            f"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain"
            f"\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        return reader, head.decode()

    async def events(self, event: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        """boto3's result of ``InvokeWithResponseStream``."""

        def call() -> list[dict[str, Any]]:
            client = boto3.client(
                "lambda", region_name="us-east-1", aws_access_key_id="x",
                aws_secret_access_key="x", endpoint_url=f"http://127.0.0.1:{self.aws.port}",
                config=Config(retries={"max_attempts": 0}),
            )  # fmt: skip
            with contextlib.closing(client):
                answer = client.invoke_with_response_stream(
                    FunctionName="fn", Payload=json.dumps(event), **options
                )
                return list(answer["EventStream"])  # type: ignore[arg-type]

        return await asyncio.to_thread(call)


def run(folder: Path, script: Callable[[Stage], Any], **fields: Any) -> None:
    async def main() -> None:
        stage = Stage(folder, **fields)
        await stage.url.start()
        await stage.aws.start()
        try:
            await script(stage)
        finally:
            for writer in stage.writers:
                writer.close()
            await stage.functions.close()
            await stage.launcher.close()
            await stage.url.stop()
            await stage.aws.stop()

    asyncio.run(main())


async def chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await asyncio.wait_for(reader.readuntil(b"\r\n"), 10), 16)
    return (await asyncio.wait_for(reader.readexactly(size + 2), 10))[:-2]


def test_a_function_url_streams_while_the_function_writes(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        reader, head = await stage.post(
            type=HTTP, pieces=["one", "two"], wait=True,
            head={"statusCode": 201, "headers": {"X-A": "b", "Content-Type": "text/plain"},
                  "cookies": ["c=1", "d=2"]},
        )  # fmt: skip
        assert head.startswith("HTTP/1.1 201 Created\r\n")
        assert "\r\nx-a: b\r\ncontent-type: text/plain\r\n" in head
        assert "\r\nset-cookie: c=1\r\nset-cookie: d=2\r\n" in head
        assert "content-length" not in head
        assert await chunk(reader) == b"one"
        assert "invocation.responded" not in [event.kind for event in stage.journal]
        (tmp_path / "go-on").touch()
        assert await chunk(reader) == b"two"
        assert await reader.read() == b"0\r\n\r\n"

    run(tmp_path, script)


def test_a_stream_of_another_type_is_the_body_of_a_200(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        reader, head = await stage.post(type="text/csv", pieces=["a,b"])
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "content-type: text/csv\r\n" in head
        assert await reader.read() == b"3\r\na,b\r\n0\r\n\r\n"

    run(tmp_path, script)


@pytest.mark.parametrize("how", [{"fail": "Broken"}, {"exit": 3}])
def test_a_response_that_breaks_off_does_not_end_as_if_whole(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    async def script(stage: Stage) -> None:
        reader, head = await stage.post(type="text/plain", pieces=["half"], wait=True, **how)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert await chunk(reader) == b"half"
        (tmp_path / "go-on").touch()
        assert await reader.read() == b""  # and no last chunk
        reader, _ = await stage.post(type="text/plain", pieces=["next"])
        assert b"next" in await reader.read()

    run(tmp_path, script)


def test_a_malformed_head_is_a_502(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        for head in ([1], {"statusCode": "x"}):
            _, answer = await stage.post(type=HTTP, pieces=["x"], head=head)
            assert answer.startswith("HTTP/1.1 502 Bad Gateway\r\n")
        _, answer = await stage.post(type=HTTP, pieces=["no separator"])
        assert answer.startswith("HTTP/1.1 502 Bad Gateway\r\n")

    run(tmp_path, script)


def test_a_response_that_is_not_streamed_comes_whole(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        reader, head = await stage.post(whole={"statusCode": 202, "body": "at once"})
        assert head.startswith("HTTP/1.1 202 Accepted\r\n")
        assert "content-length: 7\r\n" in head
        assert await reader.read() == b"at once"

    run(tmp_path, script)


def test_boto3_reads_the_event_stream(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        events = await stage.events({"pieces": ["one", "two"]}, LogType="Tail")
        chunks = [event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event]
        assert b"".join(chunks) == b"onetwo"
        assert set(events[-1]["InvokeComplete"]) == {"LogResult"}
        (whole, complete) = await stage.events({"whole": [1]})
        assert whole == {"PayloadChunk": {"Payload": b"[1]"}}
        assert complete == {"InvokeComplete": {}}

    run(tmp_path, script)


def test_boto3_is_told_of_a_failure_half_way(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        chunk, complete = await stage.events({"pieces": ["half"], "fail": "Broken"})
        assert chunk == {"PayloadChunk": {"Payload": b"half"}}
        assert complete["InvokeComplete"]["ErrorCode"] == "Broken"
        assert json.loads(complete["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "half-way"

    run(tmp_path, script)


def test_a_timeout_ends_the_stream(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        chunk, complete = await stage.events({"pieces": ["half"], "wait": True})
        assert chunk == {"PayloadChunk": {"Payload": b"half"}}
        assert complete["InvokeComplete"]["ErrorCode"] == "Sandbox.Timedout"

    run(tmp_path, script, timeout_s=0.5)


def test_a_buffered_call_gathers_the_pieces(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        outcome = await stage.functions.invoke("fn", b'{"pieces": ["[1,", "2]"]}')
        assert (outcome.payload, outcome.error) == (b"[1,2]", None)
        event = {"pieces": ["x" * 1000], "times": 7000}
        outcome = await stage.functions.invoke("fn", json.dumps(event).encode())
        assert json.loads(outcome.payload)["errorType"] == "Function.ResponseSizeTooLarge"

    run(tmp_path, script)


class Flow:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_a_slow_caller_makes_the_function_wait() -> None:
    async def main() -> None:
        flow, stream = Flow(), ResponseStream()
        stream.open("text/plain", flow)
        for _ in range(3):
            stream.write(b"x" * 600_000)
        assert flow.calls == ["pause"]
        pieces = aiter(stream)
        for _ in range(3):
            await anext(pieces)
        assert flow.calls == ["pause", "resume"]
        stream.end(None)
        assert [piece async for piece in pieces] == []

    asyncio.run(main())
