"""The command as a process: what it prints, how it ends, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      {Handler: shown.handler, CodeUri: src/, Runtime: python3.13, Events: {A: {Type: HttpApi}}}
"""
CODE = """
import os
def handler(event, context):
    print("shown line")
    return {"pid": os.getpid()}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shown.py").write_text(CODE)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "twolane_local.cli", "up", "--port", "0", "--aws-port", "0",
         *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(project / "cache")},
    )  # fmt: skip


def children(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children(child)
    return found


@contextmanager
def awaited(pids: Iterable[int]) -> Iterator[Callable[[float], bool]]:
    """Whether all of them have ended within so many seconds."""
    with ExitStack() as undo:
        descriptors = []
        for pid in pids:
            descriptors.append(os.pidfd_open(pid))
            undo.callback(os.close, descriptors[-1])
        yield lambda seconds: all(select([one], [], [], seconds)[0] for one in descriptors)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL],
)
def test_up_serves_and_leaves_no_process_behind(project: Path, number: signal.Signals) -> None:
    process = start(project, "--json")
    assert process.stdout is not None
    addresses: dict[str, Any] = json.loads(process.stdout.readline())
    with urllib.request.urlopen(addresses["api"] + "/x") as response:
        pid = json.load(response)["pid"]
    below = children(process.pid)
    assert pid in below
    with awaited(below) as gone:
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert gone(4)
    if number != signal.SIGKILL:
        assert process.returncode == 0
        assert " → gateway         GET /x" in errors
        assert " · Api             shown line" in errors


def test_the_table_says_where_everything_is(project: Path) -> None:
    process = start(project, "--quiet")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert lines[0] == "twolane is up\n"
    assert "API" in lines[1]
    assert "http://127.0.0.1:" in lines[1]
    assert "AWS endpoint" in lines[2]
    assert "store" in lines[3]


def test_a_missing_template_is_one_clear_line(tmp_path: Path) -> None:
    process = start(tmp_path)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert errors.count("\n") == 1
    assert errors.startswith("! template.yaml cannot be read")
    assert "--template" in errors


def test_a_handler_that_does_not_import_is_one_clear_line_and_ends_nothing(project: Path) -> None:
    (project / "src" / "shown.py").write_text("import nothing_there\n")
    process = start(project, "--quiet", "--json")
    assert process.stdout is not None
    addresses: dict[str, Any] = json.loads(process.stdout.readline())
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(addresses["api"] + "/x")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    line = errors.splitlines()[-1]
    assert errors.count("does not load") == 1
    assert line.startswith("! template.yaml:4: Api: handler shown.handler in ")
    assert "No module named 'nothing_there'" in line


KEPT = TEMPLATE.replace(
    "Resources:",
    """Resources:
  Jobs: {Type: AWS::SQS::Queue}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]""",
)


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(project: Path) -> None:
    (project / "template.yaml").write_text(KEPT)

    def up() -> tuple[subprocess.Popen[str], dict[str, Any]]:
        process = start(project, "--json", "--persist", "kept")
        assert process.stdout is not None
        addresses: dict[str, Any] = json.loads(process.stdout.readline())
        return process, addresses

    def client(service: str, addresses: dict[str, Any]) -> Any:
        return boto3.client(
            service, endpoint_url=addresses["aws"], region_name="us-east-1",
            aws_access_key_id="local", aws_secret_access_key="local",
        )  # fmt: skip

    process, addresses = up()
    for number in range(20):
        client("sqs", addresses).send_message(
            QueueUrl=addresses["queues"]["local-Jobs"], MessageBody=str(number)
        )
    client("dynamodb", addresses).put_item(TableName="local-Table", Item={"id": {"S": "1"}})
    with redis.Redis.from_url(addresses["store"]) as store:
        store.set("key", "value")
    process.kill()
    process.communicate(timeout=20)
    process, addresses = up()
    try:
        queue = client("sqs", addresses).get_queue_attributes(
            QueueUrl=addresses["queues"]["local-Jobs"],
            AttributeNames=["ApproximateNumberOfMessages"],
        )
        assert queue["Attributes"]["ApproximateNumberOfMessages"] == "20"
        found = client("dynamodb", addresses).scan(TableName="local-Table")
        assert found["Items"] == [{"id": {"S": "1"}}]
        if addresses["store_kind"] == "redis-server":
            with redis.Redis.from_url(addresses["store"]) as store:
                assert store.get("key") == b"value"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def test_debugging_is_in_this_process(project: Path) -> None:
    process = start(project, "--json", "--debug")
    assert process.stdout is not None
    addresses: dict[str, Any] = json.loads(process.stdout.readline())
    with urllib.request.urlopen(addresses["api"] + "/x") as response:
        assert json.load(response)["pid"] == process.pid
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
