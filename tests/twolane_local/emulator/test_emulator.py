"""A whole template on this machine, isolated and in-process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.errors import LocalError, PortInUseError
from twolane_local.http.servers import bind
from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.emulator import Emulator
    from twolane_local.journal import Journal

    from ...conftest import Emulate  # noqa: TID252

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {Type: String, Default: ""}
Globals:
  Function: {CodeUri: src/, Runtime: python3.13, Timeout: 10, MemorySize: 256}
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: emulated.api
      Environment: {Variables: {QUEUE: !Ref Tasks, STORE: !Ref RedisUrl, TABLE: !Ref Table}}
      Events: {All: {Type: HttpApi}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: emulated.worker
      Events:
        Queue:
          Type: SQS
          Properties: {Queue: !GetAtt Tasks.Arn, FunctionResponseTypes: [ReportBatchItemFailures]}
  Tasks:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 1}}
  Dead: {Type: AWS::SQS::Queue}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
"""
CODE = """
import json, os

def api(event, context):
    if event["rawPath"] == "/send":
        import boto3
        boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=event["body"])
    if event["rawPath"] == "/real":
        import socket
        try:
            socket.create_connection(("sqs.eu-west-1.amazonaws.com", 443))
        except ConnectionRefusedError as error:
            return {"refused": str(error)}
    if event["rawPath"] == "/table":
        import boto3
        table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
        table.put_item(Item={"id": "1"})
        return {"items": table.item_count or len(table.scan()["Items"])}
    return {"store": os.environ["STORE"], "pid": os.getpid()}

def worker(event, context):
    failed = [r["messageId"] for r in event["Records"] if r["body"] == "fail"]
    return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}
"""


def project(folder: Path, *, code: str = CODE) -> Path:
    (folder / "src").mkdir()
    (folder / "src" / "emulated.py").write_text(code)
    (folder / "template.yaml").write_text(TEMPLATE)
    return folder / "template.yaml"


@pytest.fixture(autouse=True)
def own_process(own_environ: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The emulator changes the process: put back what it changed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "emulated", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


async def until(emulator: Emulator, kind: str, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while sum(event.kind == kind for event in emulator.journal) < count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("in_process", [False, True])
def test_the_whole_way(tmp_path: Path, in_process: bool, emulate: Emulate) -> None:
    async def script(emulator: Emulator) -> None:
        url = next(iter(emulator.addresses.apis.values()))
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            answer = (await client.get("/")).json()
            assert answer["store"] == emulator.addresses.store
            assert (answer["pid"] == os.getpid()) is in_process
            refused = (await client.get("/real")).json()["refused"]
            assert "real AWS (sqs.eu-west-1.amazonaws.com)" in refused
            table = (await client.get("/table")).json()
            assert table == {"items": 1}, [e for e in emulator.journal if e.data.get("error")]
            await client.post("/send", content="work", headers={"content-type": "text/plain"})
            await until(emulator, "message.deleted")
            await client.post("/send", content="fail", headers={"content-type": "text/plain"})
        queue = emulator.queues.get("local-Tasks")
        assert queue is not None

    emulate(
        Options(project(tmp_path), port=0, aws_port=0, in_process=in_process),
        script,
    )


def test_a_handler_that_does_not_import_is_said_at_the_start(
    tmp_path: Path, emulate: Emulate
) -> None:
    path = project(tmp_path, code="import nothing_there")

    async def script(emulator: Emulator) -> None:
        api, worker = emulator.problems
        assert f"template.yaml:8: Api: handler emulated.api in {tmp_path / 'src'} does not" in api
        assert "Worker: handler emulated.worker" in worker

    emulate(Options(path, port=0, aws_port=0), script)


def test_a_port_in_use_names_the_flag(tmp_path: Path, emulate: Emulate) -> None:
    with bind(0, "--port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=rf"port {port} is in use.*--aws-port"):
            emulate(Options(project(tmp_path), port=0, aws_port=port), _never)


def test_an_unknown_parameter_is_an_error_even_with_a_store(
    tmp_path: Path, emulate: Emulate
) -> None:
    with pytest.raises(LocalError, match="no parameter 'Nope'"):
        emulate(Options(project(tmp_path), port=0, aws_port=0, parameters={"Nope": "1"}), _never)


async def _never(_: Any) -> None:
    raise AssertionError("it must not start")


def test_a_store_parameter_that_is_given_stays(tmp_path: Path, emulate: Emulate) -> None:
    async def script(emulator: Emulator) -> None:
        spec = next(spec for spec in emulator.stack.functions if spec.name == "Api")
        assert spec.environment["STORE"] == "redis://elsewhere"

    options = Options(
        project(tmp_path), port=0, aws_port=0, parameters={"RedisUrl": "redis://elsewhere"}
    )
    emulate(options, script)


def test_the_invoke_api_on_the_endpoint(tmp_path: Path, emulate: Emulate) -> None:
    async def script(emulator: Emulator) -> None:
        async with httpx.AsyncClient(base_url=emulator.addresses.aws, timeout=20) as client:
            response = await client.post(
                "/2015-03-31/functions/Worker/invocations", content=b'{"Records": []}'
            )
        assert (response.status_code, json.loads(response.content)) == (
            200,
            {"batchItemFailures": []},
        )

    emulate(Options(project(tmp_path), port=0, aws_port=0), script)


def test_a_source_change_is_taken_up_while_work_under_way_finishes(
    tmp_path: Path, emulate: Emulate
) -> None:
    path = project(tmp_path, code=CODE.replace("import json, os", "import json, os, time"))
    source = tmp_path / "src" / "emulated.py"
    slow = source.read_text().replace(
        'return {"store"',
        'time.sleep(3 if event["rawPath"] == "/slow" else 0)\n    return {"store"',
    )
    source.write_text(slow)

    async def script(emulator: Emulator) -> None:
        url = next(iter(emulator.addresses.apis.values()))
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            under_way = asyncio.create_task(client.get("/slow"))
            await until(emulator, "invocation.started")
            source.write_text(slow.replace('"store":', '"changed": True, "store":'))
            async with asyncio.timeout(20):
                while "changed" not in (await client.get("/")).json():
                    await asyncio.sleep(0.05)
            assert not under_way.done()
            assert "changed" not in (await under_way).json()

    emulate(Options(path, port=0, aws_port=0, reload=True), script)


def test_a_template_change_is_applied(tmp_path: Path, emulate: Emulate) -> None:
    path = project(tmp_path)

    async def script(emulator: Emulator) -> None:
        path.write_text(
            TEMPLATE.replace(
                "Dead: {Type", "Added: {Type: AWS::SQS::Queue}\n  Dead: {Type"
            ).replace("Environment: {Variables: {", "Environment: {Variables: {ADDED: !Ref Added, ")
        )
        async with asyncio.timeout(20):
            while "ADDED" not in emulator.functions.specs["Api"].environment:
                await asyncio.sleep(0.02)
        assert emulator.queues.get("local-Added") is not None
        path.write_text("Resources: {")
        await until(emulator, "log")
        async with asyncio.timeout(20):
            while not any("the former stays" in str(e.data.get("line")) for e in emulator.journal):
                await asyncio.sleep(0.02)
        assert emulator.functions.specs.keys() == {"Api", "Worker"}

    emulate(Options(path, port=0, aws_port=0, reload=True), script)


BATCH = "{Queue: !GetAtt Tasks.Arn, FunctionResponseTypes: [ReportBatchItemFailures]"
#: Refused by the text, the form, the mapping, a queue's attributes, and moto.
BAD_CHANGES = {
    "text": ("Globals:", "Globals: ["),
    "form": ("Type: AWS::DynamoDB::Table", "Type: 5"),
    "mapping": (BATCH, f"{BATCH}, BatchSize: 99999"),
    "filter": (BATCH, f"{BATCH}, FilterCriteria: {{Filters: [{{Pattern: '{{}}'}}]}}"),
    "queue": ("Dead: {Type: AWS::SQS::Queue}",
              "Dead: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: -1}}"),
    "fifo": ("Dead: {Type: AWS::SQS::Queue}",
             "Dead: {Type: AWS::SQS::Queue, Properties: {QueueName: same.fifo}}"),
    "moto": ("  Dead: {Type",
             "  B: {Type: AWS::S3::Bucket, Properties: {BucketName: a}}\n  Dead: {Type"),
    "dead letters": ("maxReceiveCount: 1}", "maxReceiveCount: none}"),
}  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [("mapping", "moto"), pytest.param(tuple(BAD_CHANGES), marks=pytest.mark.slow)],
)
def test_a_bad_template_leaves_the_former_running(
    tmp_path: Path, names: tuple[str, ...], emulate: Emulate
) -> None:
    path = project(tmp_path)

    def refusals(emulator: Emulator) -> list[str]:
        lines = [str(event.data.get("line")) for event in emulator.journal]
        return [line for line in lines if "the former stays" in line]

    async def until_it_holds(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)

    async def script(emulator: Emulator) -> None:
        url = next(iter(emulator.addresses.apis.values()))
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            for number, name in enumerate(names, 1):
                path.write_text(TEMPLATE.replace(*BAD_CHANGES[name]))
                assert path.read_text() != TEMPLATE
                await until_it_holds(lambda number=number: len(refusals(emulator)) >= number)
                assert not emulator.failed.done()
                assert (await client.get("/")).json()["store"] == emulator.addresses.store
                assert (await client.get("/table")).json() == {"items": 1}
                await client.post("/send", content="work", headers={"content-type": "text/plain"})
                await until(emulator, "message.deleted", number)
            lines = refusals(emulator)
            assert len(lines) == len(names), lines
            assert all("\n" not in line for line in lines)
            assert not any("is not whole" in str(e.data.get("line")) for e in emulator.journal)
            path.write_text(TEMPLATE.replace("STORE: !Ref RedisUrl", "STORE: after"))
            await until_it_holds(
                lambda: emulator.functions.specs["Api"].environment["STORE"] == "after"
            )
            assert (await client.get("/")).json()["store"] == "after"

    emulate(Options(path, port=0, aws_port=0, reload=True), script)


def test_persisted_queues_survive(tmp_path: Path, emulate: Emulate) -> None:
    path = project(tmp_path)
    options = Options(path, port=0, aws_port=0, persist=tmp_path / "kept", sources=False)

    async def fill(emulator: Emulator) -> None:
        emulator.queues.send("local-Dead", NewMessage("kept"))

    async def look(emulator: Emulator) -> None:
        (message,) = emulator.queues.receive("local-Dead", 10)
        assert message.message.body == "kept"

    emulate(options, fill)
    emulate(options, look)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_store_that_dies_ends_the_emulator_with_a_word(tmp_path: Path, emulate: Emulate) -> None:
    async def script(emulator: Emulator) -> None:
        emulator._store._process.kill()  # type: ignore[attr-defined]
        forever = asyncio.create_task(asyncio.Event().wait())
        with pytest.raises(LocalError, match="redis-server ended"):
            await asyncio.wait_for(emulator.run_until(forever), 20)
        forever.cancel()

    emulate(Options(project(tmp_path), port=0, aws_port=0, warm=False), script)


SLEEPS = """
import time

def api(event, context):
    time.sleep(SECONDS)

worker = api
"""


@pytest.mark.slow
@pytest.mark.parametrize("in_process", [False, True])
def test_each_invocation_ends_in_the_journal_whatever_its_source(
    tmp_path: Path, in_process: bool, emulate: Emulate
) -> None:
    """From an API, a queue, an asynchronous invocation as schedules make them, and the Lambda API:
    killed from outside (in this process: timed out), and under way when the emulator stops.
    """
    journals: list[Journal] = []

    async def script(emulator: Emulator) -> None:
        journals.append(emulator.journal)
        url = next(iter(emulator.addresses.apis.values()))
        lambda_url = f"{emulator.aws_url}/2015-03-31/functions/Api/invocations"

        async def ask_all(client: httpx.AsyncClient) -> list[asyncio.Task[httpx.Response]]:
            emulator.queues.send("local-Tasks", NewMessage("work"))
            emulator.invocations.submit("Api", b"{}")
            return [
                asyncio.create_task(client.get(url)),
                asyncio.create_task(client.post(lambda_url, content=b"{}")),
            ]

        async with httpx.AsyncClient(timeout=60) as client:
            answers = await ask_all(client)
            if in_process:  # one environment a function: the others wait
                await until(emulator, "invocation.ended", 4)
            else:
                await until(emulator, "invocation.started", 4)
                for pool in emulator.functions._pools.values():
                    for environment in tuple(pool._busy):
                        os.kill(environment._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            first, second = await asyncio.gather(*answers)
            assert (first.status_code, second.status_code) == (500, 200)
            assert second.headers["x-amz-function-error"] == "Unhandled"
            await until(emulator, "invocation.ended", 4)
            emulator.queues.send("local-Tasks", NewMessage("again"))
            emulator.invocations.submit("Api", b"{}")
            await until(emulator, "invocation.started", 6)

    template = project(tmp_path, code=SLEEPS.replace("SECONDS", "1.5" if in_process else "60"))
    template.write_text(TEMPLATE.replace("Timeout: 10", f"Timeout: {1 if in_process else 50}"))
    emulate(Options(template, in_process=in_process, port=0, aws_port=0), script)
    (journal,) = journals
    began = Counter(e.request_id for e in journal if e.kind == "invocation.started")
    ended = Counter(e.request_id for e in journal if e.kind == "invocation.ended")
    assert began == ended
    assert len(began) >= 6
    reasons = {e.data.get("reason") for e in journal if e.kind == "invocation.ended"}
    how = "timed out after 1 s" if in_process else "the environment exited (signal: killed)"
    assert how in reasons
    assert "the environment was stopped" in reasons
