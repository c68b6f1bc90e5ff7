"""SnapStart with the whole emulator: state that the runtime renews, and warnings of other state."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.aws.lambda_.launchers import snapstart_available
from twolane_local.emulator import Emulator
from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not snapstart_available(), reason="snapshots are played on Linux only"),
]

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {Type: String, Default: ""}
Globals:
  Function:
    CodeUri: src/
    Runtime: python3.13
    Timeout: 20
    MemorySize: 512
    AutoPublishAlias: live
    SnapStart: {ApplyOn: PublishedVersions}
    Environment: {Variables: {QUEUE: !Ref Tasks, STORE: STORE_URL}}
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: snapped.api
      Events: {All: {Type: HttpApi}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: snapped.worker
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            BatchSize: 1
            FunctionResponseTypes: [ReportBatchItemFailures]
  Tasks: {Type: AWS::SQS::Queue}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
"""
#: An application that does in its init whatever leaves connections and ids behind.
CODE = """
import asyncio, os, random, sys, time
HIDDEN
from celery import Celery, current_task, signals
from fastapi import BackgroundTasks, FastAPI
from twolane import ApiHandler, WorkerHandler

NAMES = []

@signals.worker_process_init.connect
def named(sender=None, **_):
    NAMES.append(sender)

celery = Celery("snapped", broker="sqs://", backend=os.environ["STORE"])
celery.conf.update(
    task_default_queue="tasks",
    broker_transport_options={"predefined_queues": {"tasks": {"url": os.environ["QUEUE"]}}},
    result_extended=True,
)

def facts():
    inodes = []
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if link.startswith("socket:"):
            inodes.append(link)
    return {
        "pid": os.getpid(), "random": random.random(), "oid": celery.oid,
        "thread_oid": celery.thread_oid, "sockets": inodes, "names": NAMES,
    }

@celery.task
def told(wait_s):
    time.sleep(wait_s)
    return {**facts(), "name": current_task.request.hostname}

app = FastAPI()

@app.get("/facts")
async def read_facts(wait_s: float):
    await asyncio.sleep(wait_s)
    return {**facts(), "task": told.delay(wait_s).id}

@app.get("/result/{task_id}")
def result(task_id: str):
    found = celery.AsyncResult(task_id)
    return {"state": found.state, "result": found.result}

@app.get("/inspect")
def inspect():
    return celery.control.inspect().ping()

@app.get("/late")
def late(background: BackgroundTasks):
    background.add_task(lambda: print("after the response"))
    return {}

# In init: a publish, a result, an id.
print("early", told.delay(0).id, celery.AsyncResult("none").state, celery.oid, celery.thread_oid)

api = ApiHandler(app)
worker = WorkerHandler(celery)
SHOWN
"""
HIDE = 'import snapshot_restore_py as _hooks; sys.modules["snapshot_restore_py"] = None'
SHOW = 'sys.modules["snapshot_restore_py"] = _hooks'


def run(
    folder: Path,
    script: Callable[[Emulator], Awaitable[None]],
    *,
    store: str = "!Ref RedisUrl",
    without_hooks: bool = False,
    code: str = CODE,
    **options: Any,
) -> None:
    (folder / "src").mkdir()
    hide, show = (HIDE, SHOW) if without_hooks else ("", "")
    (folder / "src" / "snapped.py").write_text(code.replace("HIDDEN", hide).replace("SHOWN", show))
    template = folder / "template.yaml"
    template.write_text(TEMPLATE.replace("STORE_URL", store))

    async def main() -> None:
        emulator = Emulator(Options(template=template, port=0, aws_port=0, **options))
        await emulator.start()
        try:
            async with asyncio.timeout(90):
                await script(emulator)
        finally:
            await emulator.stop()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def own_process(own_environ: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The emulator changes the process: undo the changes."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "snapped", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lines(emulator: Emulator, text: str) -> list[str]:
    said = [str(event.data.get("message") or event.data.get("line")) for event in emulator.journal]
    return [line for line in said if text in line]


async def two_of_each(emulator: Emulator) -> tuple[list[Any], list[Any]]:
    """The answers of two environments of the API and two of the worker."""
    (url,) = emulator.addresses.apis.values()
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        both = await asyncio.gather(*(client.get("/facts?wait_s=1") for _ in range(2)))
        apis = [answer.raise_for_status().json() for answer in both]
        workers = []
        for one in apis:
            found: dict[str, Any] = {}
            while found.get("state") not in {"SUCCESS", "FAILURE"}:
                found = (await client.get(f"/result/{one['task']}")).raise_for_status().json()
            assert found["state"] == "SUCCESS", found
            workers.append(found["result"])
        (await client.get("/late")).raise_for_status()
        async with asyncio.timeout(20):
            while not lines(emulator, "after the response"):
                await asyncio.sleep(0.01)
        listed = (await client.get("/inspect")).json()
        assert {one["name"] for one in workers} <= set(listed)
    assert len({one["pid"] for one in apis}) == len({one["pid"] for one in workers}) == 2
    return apis, workers


UNIQUE = ("random", "oid", "thread_oid")


@pytest.mark.parametrize(
    "store", ["!Ref RedisUrl", '!Sub "dynamodb://@us-east-1/${Table}"'], ids=["redis", "dynamodb"]
)
def test_two_environments_share_nothing_with_the_runtime(tmp_path: Path, store: str) -> None:
    async def script(emulator: Emulator) -> None:
        apis, workers = await two_of_each(emulator)
        for one, other in (apis, workers):
            for what in UNIQUE:
                assert one[what] != other[what], what
            assert not set(one["sockets"]) & set(other["sockets"])
        assert workers[0]["name"] != workers[1]["name"]
        # A process of a pool begins with the restore, under the name that it keeps.
        assert [one["names"] for one in workers] == [[one["name"]] for one in workers]
        assert lines(emulator, "snapshot holds") == []
        assert lines(emulator, "`random`") == []

    run(tmp_path, script, store=store)


def test_without_the_hooks_they_share_what_is_said(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        apis, workers = await two_of_each(emulator)
        for one, other in (apis, workers):
            for what in UNIQUE[1:]:  # a draw in between changes the state of `random`
                assert one[what] == other[what], what
            assert set(one["sockets"]) & set(other["sockets"])
        assert workers[0]["name"] == workers[1]["name"]
        for function in ("Api", "Worker"):
            assert lines(emulator, f"! {function}: the snapshot holds open connections")
            assert lines(emulator, f"! {function}: `random` is in the same state")

    run(tmp_path, script, without_hooks=True)


NAIVE = """
import os, random, redis
random.seed(1)
CLIENT = redis.Redis.from_url(os.environ["STORE"])
CLIENT.ping()

def worker(event, context):
    import boto3, time
    time.sleep(event.get("sleep", 0))
    tables = boto3.client("dynamodb").list_tables()["TableNames"]
    return {"random": random.random(), "tables": tables}

api = worker
"""


def test_a_naive_application_is_caught_by_name(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        import boto3

        client = boto3.client("lambda", endpoint_url=emulator.aws_url, region_name="us-east-1")

        def invoke(name: str, **more: str) -> Any:
            answer = client.invoke(FunctionName=name, Payload=b'{"sleep": 1}', **more)
            return json.load(answer["Payload"])

        both = await asyncio.gather(
            asyncio.to_thread(invoke, "Worker", Qualifier="live"),
            asyncio.to_thread(invoke, "Worker:live"),
        )
        # boto3 found its credentials, of which none are in the variables.
        assert [one["tables"] for one in both] == [[f"{emulator.stack.name}-Table"]] * 2
        assert both[0]["random"] == both[1]["random"]
        address = emulator.addresses.store.removeprefix("redis://").partition("/")[0]
        (held,) = lines(emulator, "! Worker: the snapshot holds open connections")
        assert f"to {address}:" in held
        assert len(lines(emulator, "! Worker: `random` is in the same state")) == 1
        assert (await asyncio.to_thread(invoke, "Worker", Qualifier="1"))["tables"]
        with pytest.raises(client.exceptions.ResourceNotFoundException, match="Worker:other"):
            await asyncio.to_thread(invoke, "Worker", Qualifier="other")
        async with httpx.AsyncClient(base_url=emulator.aws_url) as http:
            path = "/2021-04-23/credentials"
            assert (await http.get(path)).status_code == 403
            assert (await http.get(path, headers={"Host": "evil.example"})).status_code == 403

    run(tmp_path, script, code=NAIVE)


def test_what_cannot_be_played_is_said_once(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        (note,) = [note for note in emulator.notes if "SnapStart" in note]
        assert note.startswith("SnapStart of Api, Worker is not emulated")
        answer = await emulator.functions.invoke("Worker", b"{}")
        assert json.loads(answer.payload)["tables"]

    run(tmp_path, script, code=NAIVE, real_cold_starts=True)
