"""The long lane: the container's own command against the queue that the template gives it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.emulator import Emulator
from twolane_local.model import Options

from .conftest import ROOT, Call, Expanded, expanded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DOCKERFILE = (ROOT / "infra" / "long-lane" / "Dockerfile").read_text()
PARAMETERS = {
    "RedisUrl": "",
    "WithLongLane": "true",
    "LongLaneImage": "123456789012.dkr.ecr.us-east-1.amazonaws.com/long-lane:1",
    "LongTasks": "app.tasks.import_recipients,app.tasks.daily_digest",
    "DigestRecipients": "reader@example.com",
}
#: Allowed and not seen here, each for a reason.
UNSEEN = {
    "sqs:ChangeMessageVisibility": "kombu puts back what a worker had taken ahead when it stops",
    "dynamodb:DeleteItem": "forgetting a result, which no task of the demonstration does",
    "ses:SendEmail": "LongTasks may name send_notification, which sends mail",
    "dynamodb:UpdateItem": "a chord's counter, where a long task is part of its header",
}


def command() -> list[str]:
    (found,) = re.findall(r"^CMD (\[.*?\])", DOCKERFILE, re.DOTALL | re.MULTILINE)
    words: list[str] = json.loads(found.replace("\\\n", ""))
    return words


def container(template: Expanded) -> dict[str, Any]:
    (definition,) = template.properties("LongLaneWorker")["ContainerDefinitions"]
    return dict(definition)


async def worker(emulator: Emulator, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The container's process, with the variables that its task definition sets."""
    variables = {
        each["Name"]: str(each["Value"]).replace("http://127.0.0.1:4566", emulator.addresses.aws)
        for each in container(expanded(**PARAMETERS))["Environment"]
    }
    program, *arguments = command()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name(program)), *arguments,
            stdout=out, stderr=out, cwd=log.parent,
            env={
                "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "handlers"),
                "AWS_ENDPOINT_URL": emulator.addresses.aws,
                "AWS_ACCESS_KEY_ID": "LongLaneWorker", "AWS_SECRET_ACCESS_KEY": "local",
                **variables,
            },
        )  # fmt: skip
    try:
        yield process
    finally:
        # As Fargate stops it: a warm shutdown.
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)


@pytest.mark.slow
def test_a_stock_worker_does_the_long_tasks(
    calls: set[Call], own_environ: None, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    async def main() -> None:
        options = Options(ROOT / "template.yaml", port=0, aws_port=0, parameters=PARAMETERS)
        emulator = Emulator(options)
        await emulator.start()
        try:
            async for _ in worker(emulator, log):
                await both_lanes(emulator)
        finally:
            await emulator.stop()

    asyncio.run(main())
    text = log.read_text()
    assert "Task app.tasks.import_recipients" in text
    assert "Task app.tasks.daily_digest" in text
    assert "Task app.tasks.send_notification" not in text

    used = {call for call in calls if call.who == "LongLaneWorker"}
    allowed = expanded(**PARAMETERS).allowed("LongLaneWorkerRole")
    refused = [call for call in sorted(used) if not any(one.covers(call) for one in allowed)]
    assert not refused
    idle = {
        one.action
        for one in allowed
        if not any(other.covers(call) for call in used for other in allowed
                   if other.action == one.action)
    }  # fmt: skip
    assert idle <= set(UNSEEN), idle


async def both_lanes(emulator: Emulator) -> None:
    (url,) = emulator.addresses.apis.values()
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
        csv = {
            "content": "email\na@example.com\nb@example.com\n",
            "headers": {"content-type": "text/csv"},
        }
        note = {"json": {"email": "user@example.com", "message": "Hello"}}
        places = [
            (await http.post("/imports", **csv)).headers["location"],  # type: ignore[arg-type]
            (await http.post("/notify/deferred", **note)).headers["location"],  # type: ignore[arg-type]
        ]
        event = (ROOT / "events" / "beat-slot.json").read_bytes()
        assert (await emulator.functions.invoke("BeatFunction", event)).error is None
        for place in places:
            for _ in range(8):
                task = (await http.get(place, headers={"Prefer": "wait=5"})).json()
                if task["state"] == "SUCCESS":
                    break
            assert task["state"] == "SUCCESS", task
        # The digest, on the long lane, has sent its mails to the other one.
        async with asyncio.timeout(20):
            while not any(
                event.kind == "log" and "reader@example.com" in str(event.data)
                for event in emulator.journal
            ):
                await asyncio.sleep(0.05)


def test_the_container_has_the_functions_settings() -> None:
    template = expanded(**PARAMETERS)
    ours = {each["Name"] for each in container(template)["Environment"]}
    functions = template.properties("WorkerFunction")["Environment"]["Variables"]
    # What the adapters read, what guards the API, and what holds messages that it cannot read.
    without = {"API_KEY_SHA256", "CLAIM_CHECK_BUCKET"}
    without |= {name for name in functions if name.startswith("TWOLANE_")}
    assert ours - {"AWS_REGION"} == set(functions) - without


def test_the_functions_may_send_to_it_and_read_nothing_from_it() -> None:
    template = expanded(**PARAMETERS)
    arn = "arn:aws:sqs:us-east-1:123456789012:local-LongLaneQueue"
    for role in ("ApiRole", "WorkerRole", "BeatRole"):
        on_it = [one.action for one in template.allowed(role) if one.resource == arn]
        assert on_it == ["sqs:SendMessage"]


def test_a_long_task_is_hidden_for_as_long_as_it_may_run() -> None:
    template = expanded(**PARAMETERS)
    queue, dead = template.properties("LongLaneQueue"), template.properties("LongLaneDeadLetters")
    assert int(queue["VisibilityTimeout"]) == 14_400
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
    assert dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]


def test_nothing_of_it_runs_without_work_and_nothing_that_works_is_stopped() -> None:
    template = expanded(**PARAMETERS)
    assert template.properties("LongLaneContainers")["MinCapacity"] == 0
    policy = template.properties("LongLaneStopAll")["StepScalingPolicyConfiguration"]
    # To none at once, and only where nothing waits and nothing runs.
    assert policy["AdjustmentType"] == "ExactCapacity"
    assert [step["ScalingAdjustment"] for step in policy["StepAdjustments"]] == [0]
    alarm = template.properties("LongLaneNothingToDo")
    watched = {each["MetricStat"]["Metric"]["MetricName"] for each in alarm["Metrics"][1:]}
    assert watched == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateNumberOfMessagesNotVisible",
    }
    assert alarm["EvaluationPeriods"] >= 10
    steps = template.properties("LongLaneStartMore")["StepScalingPolicyConfiguration"]
    assert all(step["ScalingAdjustment"] > 0 for step in steps["StepAdjustments"])


def test_the_container_can_write_to_its_scratch_only() -> None:
    definition = container(expanded(**PARAMETERS))
    assert definition["ReadonlyRootFilesystem"] is True
    assert [mount["ContainerPath"] for mount in definition["MountPoints"]] == ["/tmp"]
    assert "\nUSER 65534" in DOCKERFILE
    assert '\nVOLUME ["/tmp"]' in DOCKERFILE


@pytest.mark.parametrize("line", re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE))
def test_the_image_is_built_from_what_is_there(line: str) -> None:
    source, _ = line.split()
    assert (ROOT / source).exists()
    ignored = (ROOT / "infra" / "long-lane" / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert [kept for kept in ignored if kept.startswith("!") and source.startswith(kept[1:])]


def test_the_images_pins_agree_with_the_functions() -> None:
    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))

    functions = pins(ROOT / "handlers" / "requirements.txt")
    worker_only = pins(ROOT / "infra" / "long-lane" / "requirements.txt")
    assert {"boto3", "pycurl"} <= set(worker_only)
    both = set(functions) & set(worker_only)
    assert {name: worker_only[name] for name in both} == {name: functions[name] for name in both}
