"""Functions' lines by the CloudWatch Logs API of a running emulator, with boto3 and real moto."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from twolane_local.model import Options

from ..running import run  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from twolane_local.emulator import Emulator

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {CodeUri: src/, Runtime: python3.13, Timeout: 1, MemorySize: 256}
Resources:
  Fn: {Type: AWS::Serverless::Function, Properties: {FunctionName: fn, Handler: app.handler}}
  Json:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: json
      Handler: app.handler
      LoggingConfig:
        {LogFormat: JSON, ApplicationLogLevel: ERROR, SystemLogLevel: DEBUG, LogGroup: /own}
  Bad: {Type: AWS::Serverless::Function, Properties: {FunctionName: bad, Handler: none.handler}}
  Group: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /aws/lambda/fn}}
"""
CODE = """
import json, os, sys, time
print("imported")

def handler(event, context):
    print("say", event.get("say"))
    if "print" in event: print(json.dumps(event["print"]))
    if "raise" in event: raise ValueError(__file__)
    if "sleep" in event: time.sleep(event["sleep"])
    if "exit" in event: sys.exit(event["exit"])
    print("unfinished", end="")
    return [context.log_group_name, context.log_stream_name,
            os.environ["AWS_LAMBDA_LOG_STREAM_NAME"], os.environ.get("AWS_LAMBDA_LOG_LEVEL")]
"""
STREAM = re.compile(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}")


class Client:
    """boto3 on threads, beside the emulator's loop."""

    def __init__(self, emulator: Emulator) -> None:
        options: dict[str, Any] = {
            "endpoint_url": emulator.aws_url, "region_name": "us-east-1",
            "config": Config(inject_host_prefix=False, retries={"max_attempts": 1}),
        }  # fmt: skip
        self.logs = boto3.client("logs", **options)
        self._lambda = boto3.client("lambda", **options)

    async def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        call = partial(getattr(self.logs, operation), **parameters)
        answer: dict[str, Any] = await asyncio.to_thread(call)
        return answer

    async def refused(self, operation: str, **parameters: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            await self(operation, **parameters)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    async def invoke(self, function: str, **event: Any) -> tuple[Any, str]:
        """The result and the tail of the log."""
        call = partial(
            self._lambda.invoke, FunctionName=function, Payload=json.dumps(event), LogType="Tail"
        )
        answer = await asyncio.to_thread(call)
        log = base64.b64decode(answer["LogResult"]).decode()
        return json.loads(await asyncio.to_thread(answer["Payload"].read)), log

    async def messages(self, **parameters: Any) -> list[str]:
        answer = await self("filter_log_events", **parameters)
        return [event["message"] for event in answer["events"]]


@pytest.fixture(autouse=True)
def own_process(own_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "app", raising=False)


def play(
    folder: Path, script: Callable[[Client, Emulator], Awaitable[None]], **options: Any
) -> None:
    (folder / "src").mkdir(exist_ok=True)
    (folder / "src" / "app.py").write_text(CODE)
    (folder / "template.yaml").write_text(TEMPLATE)
    given = Options(
        template=folder / "template.yaml", port=0, aws_port=0, console=False, reload=False,
        **options,
    )  # fmt: skip
    run(given, lambda emulator: script(Client(emulator), emulator))


def test_a_functions_lines(tmp_path: Path) -> None:
    """One emulator for all of it: its start is what takes time."""

    async def script(client: Client, emulator: Emulator) -> None:
        await lines_of_an_invocation(client)
        await failures(client, emulator)
        await json_log(client)
        await reading(client)
        await streams_and_groups(client)
        await groups_of_moto(client)
        await live_tail(client)

    play(tmp_path, script)


async def lines_of_an_invocation(client: Client) -> None:
    (group, stream, variable, level), tail = await client.invoke("fn", say="one")
    assert (group, stream, level) == ("/aws/lambda/fn", variable, None)
    assert STREAM.fullmatch(stream)
    assert re.search(r"START RequestId: \S+ Version: \$LATEST\nsay one\nunfinished\nEND ", tail)
    init, imported, start, said, rest, end, report = await client.messages(logGroupName=group)
    assert init.startswith("INIT_START Runtime Version: python:3.13")
    assert (imported, said, rest) == ("imported\n", "say one\n", "unfinished\n")
    assert start.startswith("START RequestId: ")
    assert start.endswith(" Version: $LATEST\n")
    assert end == start.replace("START", "END").partition(" Version")[0] + "\n"
    assert re.match(
        r"REPORT RequestId: \S+\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB"
        r"\tMax Memory Used: \d+ MB\tInit Duration: [\d.]+ ms\t\n",
        report,
    )


async def failures(client: Client, emulator: Emulator) -> None:
    error, tail = await client.invoke("fn", **{"raise": True})
    assert error["errorMessage"] == "/var/task/app.py"
    assert error["stackTrace"][0].startswith('  File "/var/task/app.py", line ')
    assert "[ERROR] ValueError: /var/task/app.py\nTraceback" in tail
    assert "Status" not in tail
    # The terminal shows what one can open.
    local = str(emulator.stack.functions[0].code_dir / "app.py")
    raised = [e for e in emulator.journal if "ValueError" in str(e.data.get("line"))]
    assert all(local in event.data["line"] for event in raised)
    assert raised

    _, tail = await client.invoke("fn", exit=3)
    assert "Error: Runtime exited with error: exit status 3\nRuntime.ExitError\nEND" in tail
    assert tail.endswith("\tStatus: error\tError Type: Runtime.ExitError\t\n")
    error, _ = await client.invoke("fn", exit=0)
    assert error["errorMessage"].endswith("Error: Runtime exited without providing a reason")
    _, tail = await client.invoke("fn", sleep=9)
    assert re.search(r"Z \S+ Task timed out after 1.00 seconds\n\nEND ", tail)
    assert tail.endswith("\tStatus: timeout\t\n")

    error, tail = await client.invoke("bad")
    assert re.match(r"START [^\n]+\nEND [^\n]+\nREPORT .*Error Type: Runtime.Import", tail)
    logged = await client.messages(logGroupName="/aws/lambda/bad")
    assert any("[ERROR] Runtime.ImportModuleError: Unable" in line for line in logged)
    assert any("\tPhase: init\tStatus: error\tError Type: Runtime.Import" in x for x in logged)


async def json_log(client: Client) -> None:
    at = {"timestamp": "2026-01-01T00:00:00.000Z"}
    (group, stream, _, level), tail = await client.invoke("json", print={"level": "WARN", **at})
    assert (group, level) == ("/own", "ERROR")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/json\[\$LATEST\]\[[0-9a-f]{32}\]", stream)
    await client.invoke("json", print={"level": "error", **at})
    await client.invoke("json", print={"level": "error", "timestamp": "never"})
    await client.invoke("json", exit=1)
    lines = [json.loads(x) for x in tail.splitlines() if x.startswith("{")]
    assert [line["type"] for line in lines] == [
        "platform.start", "platform.runtimeDone", "platform.report"
    ]  # fmt: skip
    assert set(lines[2]["record"]["metrics"]) == {
        "durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"
    }  # fmt: skip
    assert await client.messages(
        logGroupName="/own",
        filterPattern='{ $.type = "platform.report" && $.record.status = error }',
    )
    # Without a valid time it has level INFO.
    levels = await client.messages(logGroupName="/own", filterPattern="{ $.level = * }")
    assert [json.loads(each) for each in levels] == [{"level": "error", **at}]


async def reading(client: Client) -> None:
    group = "/aws/lambda/fn"
    every = (await client("filter_log_events", logGroupName=group))["events"]
    pages: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:  # as `aws logs tail` and `sam logs` do
        page = await client(
            "filter_log_events", logGroupName=group, interleaved=True, startTime=0, limit=4, **token
        )
        pages += page["events"]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert pages == every
    assert len({event["eventId"] for event in every}) == len(every)
    back = await client("filter_log_events", logGroupName=group, startFromHead=False, limit=2)
    assert back["events"] == every[:-3:-1]

    last = every[-1]
    assert await client.messages(logGroupName=group, startTime=last["timestamp"] + 1) == []
    assert last["message"] in await client.messages(
        logGroupName=group, startTime=last["timestamp"], endTime=last["timestamp"]
    )
    assert await client.messages(logGroupName=group, filterPattern='"say one"') == ["say one\n"]
    stream = every[0]["logStreamName"]
    only = await client("filter_log_events", logGroupName=group, logStreamNames=[stream])
    assert {event["logStreamName"] for event in only["events"]} == {stream}
    begins = await client("filter_log_events", logGroupName=group, logStreamNamePrefix=stream[:20])
    assert only["events"] == [e for e in begins["events"] if e["logStreamName"] == stream]

    named = {"logGroupIdentifier": f"arn:aws:logs:us-east-1:123456789012:log-group:{group}"}
    named |= {"logStreamName": stream}
    whole = await client("get_log_events", **named, startFromHead=True)
    texts = [event["message"] for event in only["events"]]
    assert [event["message"] for event in whole["events"]] == texts
    latest = await client("get_log_events", **named, limit=2)
    assert [event["message"] for event in latest["events"]] == texts[-2:]
    former = await client("get_log_events", **named, limit=2, nextToken=latest["nextBackwardToken"])
    assert [event["message"] for event in former["events"]] == texts[-4:-2]
    end = await client("get_log_events", **named, nextToken=whole["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], whole["nextForwardToken"])
    before = await client("get_log_events", **named, endTime=only["events"][0]["timestamp"])
    assert before["events"] == []


async def streams_and_groups(client: Client) -> None:
    group = "/aws/lambda/fn"
    ordered = await client(
        "describe_log_streams", logGroupName=group, orderBy="LastEventTime", descending=True
    )
    times = [stream["lastEventTimestamp"] for stream in ordered["logStreams"]]
    assert len(times) > 1
    assert times == sorted(times, reverse=True)
    pages: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await client("describe_log_streams", logGroupName=group, limit=1, **token)
        pages += [stream["logStreamName"] for stream in page["logStreams"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert pages == sorted(stream["logStreamName"] for stream in ordered["logStreams"])

    no_stream = ("ResourceNotFoundException", "The specified log stream does not exist.")
    wrong = "InvalidParameterException"
    named = {"logGroupName": group, "logStreamName": "none"}
    assert await client.refused("get_log_events", **named) == no_stream
    put = {"logEvents": [{"timestamp": 1, "message": "x"}]}
    assert await client.refused("put_log_events", **named, **put) == no_stream
    assert (await client.refused("filter_log_events", logGroupName="/none"))[0] == no_stream[0]
    for parameters in (
        {"filterPattern": "{ $.a }"},
        {"filterPattern": f"{{ {'(' * 1000} }}"},
        {"nextToken": "x"},
        {"logStreamNames": ["a"], "logStreamNamePrefix": "a"},
    ):
        given: dict[str, Any] = {"logGroupName": group, **parameters}
        assert (await client.refused("filter_log_events", **given))[0] == wrong
    above = "Value '10001' at 'limit' failed to satisfy constraint: "
    above += "Member must have value less than or equal to 10000"
    assert await client.refused("filter_log_events", logGroupName=group, limit=10_001) == (
        wrong,
        f"1 validation error detected: {above}",
    )
    assert (await client.refused("filter_log_events"))[0] == wrong
    by_time = {"orderBy": "LastEventTime", "logStreamNamePrefix": "2"}
    assert (await client.refused("describe_log_streams", logGroupName=group, **by_time))[0] == wrong

    # An application's own stream in a function's group.
    now = int(time.time() * 1000)
    own = {"logGroupName": group, "logStreamName": "own"}
    await client("create_log_stream", **own)
    assert (await client.refused("create_log_stream", **own))[0] == "ResourceAlreadyExistsException"
    answer = await client(
        "put_log_events", **own,
        logEvents=[{"timestamp": 1, "message": "old"}, {"timestamp": now, "message": "mine \ud800"},
                   {"timestamp": now + 10_000_000, "message": "new"}],
    )  # fmt: skip
    assert answer["rejectedLogEventsInfo"] == {
        "tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2
    }  # fmt: skip
    assert await client.messages(logGroupName=group, logStreamNames=["own"]) == ["mine ?"]
    await client("delete_log_stream", **own)
    assert await client.refused("get_log_events", **own) == no_stream


async def groups_of_moto(client: Client) -> None:
    await client("create_log_group", logGroupName="/app/own")
    await client("create_log_stream", logGroupName="/app/own", logStreamName="s")
    events = [{"timestamp": int(time.time() * 1000), "message": "from the application"}]
    named = {"logGroupName": "/app/own", "logStreamName": "s"}
    await client("put_log_events", **named, logEvents=events)
    assert await client.messages(logGroupName="/app/own") == ["from the application"]
    # What a group of a function has beside its events.
    await client("put_retention_policy", logGroupName="/own", retentionInDays=7)
    found = (await client("describe_log_groups"))["logGroups"]
    names = [group["logGroupName"] for group in found]
    assert names == ["/app/own", "/aws/lambda/bad", "/aws/lambda/fn", "/own"]
    assert [group.get("retentionInDays") for group in found] == [None, None, None, 7]
    assert all(group["storedBytes"] for group in found)
    first = await client("describe_log_groups", limit=3)
    rest = await client("describe_log_groups", limit=3, nextToken=first["nextToken"])
    assert first["logGroups"] + rest["logGroups"] == found
    some = await client("describe_log_groups", logGroupNamePattern="lambda/f")
    assert [group["logGroupName"] for group in some["logGroups"]] == ["/aws/lambda/fn"]
    exists = ("ResourceAlreadyExistsException", "The specified log group already exists")
    assert await client.refused("create_log_group", logGroupName="/own") == exists

    await client("delete_log_group", logGroupName="/own")
    missing = await client.refused("filter_log_events", logGroupName="/own")
    assert missing[0] == "ResourceNotFoundException"
    await client.invoke("json", say="again")  # its environment makes the group anew
    assert "say again\n" in await client.messages(logGroupName="/own")


async def live_tail(client: Client) -> None:
    arn = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/fn"
    answer = await client(
        "start_live_tail", logGroupIdentifiers=[arn], logEventFilterPattern='"say tail"'
    )
    events = iter(answer["responseStream"])
    start = (await asyncio.to_thread(next, events))["sessionStart"]
    assert start["logGroupIdentifiers"] == [arn]
    await client.invoke("fn", say="other")
    await client.invoke("fn", say="tail")
    results: list[dict[str, Any]] = []
    while not results:
        update = (await asyncio.to_thread(next, events))["sessionUpdate"]
        results += update["sessionResults"]
    assert [result["message"] for result in results] == ["say tail\n"]
    answer["responseStream"].close()
    unknown = await client.refused("start_live_tail", logGroupIdentifiers=[f"{arn}-none"])
    assert unknown[0] == "ResourceNotFoundException"


def test_functions_of_this_process(tmp_path: Path) -> None:
    async def script(client: Client, _: Emulator) -> None:
        (group, stream, *_), tail = await client.invoke("fn", say="one")
        assert re.search(r"START [^\n]+\nsay one\nunfinished\nEND ", tail)
        error, tail = await client.invoke("fn", **{"raise": True})
        assert error["errorMessage"] == "/var/task/app.py"
        assert "[ERROR] ValueError: /var/task/app.py\nTraceback (most recent call last):" in tail
        lines = await client.messages(logGroupName=group, logStreamNames=[stream])
        assert lines[0].startswith("INIT_START")
        assert [x for x in lines if x.startswith("say")] == ["say one\n", "say None\n"]
        _, tail = await client.invoke("bad")
        assert "Status: error\tError Type: Runtime.ImportModuleError" in tail

    play(tmp_path, script, in_process=True)


def test_the_next_run_has_the_lines(tmp_path: Path) -> None:
    async def first(client: Client, _: Emulator) -> None:
        await client.invoke("fn", say="kept")

    async def second(client: Client, _: Emulator) -> None:
        found = await client.messages(logGroupName="/aws/lambda/fn", filterPattern="kept")
        assert found == ["say kept\n"]

    play(tmp_path, first, persist=tmp_path / "kept", in_process=True)
    play(tmp_path, second, persist=tmp_path / "kept", in_process=True, warm=False)
