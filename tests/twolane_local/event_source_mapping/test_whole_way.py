"""From a queue through a mapping into real execution environments, and back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.event_source_mapping import EventSourceMapping
from twolane_local.aws.guard import function_environment
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, QueueMappingSpec
from twolane_local.model.message import AttributeValue

if TYPE_CHECKING:
    from pathlib import Path

HANDLER = """
import json, os

def handler(event, context):
    with open(os.environ["SEEN"], "a") as file:
        for record in event["Records"]:
            file.write(json.dumps(record) + "\\n")
    bad = [r for r in event["Records"] if r["body"] == "bad"]
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in bad]}
"""
BODIES = ['{"a": 1}\r\n', "\t\u2028 grüße 😀 \ufffd", '\\u0000 "quoted" \\', "x" * 300_000, "bad"]


@pytest.mark.slow
@pytest.mark.parametrize("isolated", [False, True])
def test_bodies_and_attributes_arrive_as_sent_and_only_the_bad_one_is_dead(
    tmp_path: Path, isolated: bool
) -> None:
    if isolated and sys.platform != "linux":
        pytest.skip("awslambdaric has wheels for Linux only")
    name = f"whole_way_{isolated}".lower()
    (tmp_path / f"{name}.py").write_text(HANDLER)
    seen = tmp_path / "seen"
    spec = FunctionSpec(
        "worker", "Worker", f"{name}.handler", tmp_path, timeout_s=20,
        environment={"SEEN": str(seen)},
    )  # fmt: skip
    asyncio.run(whole_way(spec, isolated=isolated))
    records = [json.loads(line) for line in seen.read_text().splitlines()]
    first = {record["body"]: record for record in records}
    assert sorted(first) == sorted(BODIES)
    assert [record["body"] for record in records].count("bad") == 2
    assert first[BODIES[0]]["messageAttributes"] == {
        "text": {
            "stringValue": "grüße",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        },
        "bytes": {
            "binaryValue": "AP8=",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "Binary",
        },
    }


async def whole_way(spec: FunctionSpec, *, isolated: bool) -> None:
    """Send, and return once all messages are done or dead."""
    clock = SystemClock()
    journal, launcher = Journal(clock), ForkLauncher()
    environ = function_environment(spec, endpoint_url="http://127.0.0.1:9")

    def make(spec, owner):
        if isolated:
            return IsolatedEnvironment(
                spec, environ, owner=owner, launcher=launcher, journal=journal
            )
        return InProcessEnvironment(spec, environ, owner=owner, journal=journal)

    functions = Functions([spec], make, journal)
    queues = QueueService(clock, journal)
    queues.create("dead")
    policy = json.dumps({"deadLetterTargetArn": queues.arn("dead"), "maxReceiveCount": 2})
    queues.create("q", {"VisibilityTimeout": "1", "RedrivePolicy": policy})
    attributes = {"text": AttributeValue("String", "grüße"),
                  "bytes": AttributeValue("Binary", None, b"\x00\xff")}  # fmt: skip
    for body in BODIES:
        queues.send("q", NewMessage(body, attributes=attributes))
    mapping = EventSourceMapping(
        QueueMappingSpec("worker", queues.arn("q"), report_batch_item_failures=True),
        queues, functions, clock, journal,
    )  # fmt: skip
    assert await functions.warm() == {}
    polling = asyncio.create_task(mapping.run())
    try:
        assert await queues.wait("dead", 30)
        assert [one.message.body for one in queues.receive("dead", 10)] == ["bad"]
        assert len(queues.refreshed("q")) == 0
    finally:
        polling.cancel()
        await asyncio.wait([polling])
        await functions.close()
        await launcher.close()
