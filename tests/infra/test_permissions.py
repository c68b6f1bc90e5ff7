"""Each function may do what it does, and does what it may: the calls are recorded on the way.

The functions run under the emulator, each with an access key of its own, and go through every
scenario of the demonstration that makes an AWS call of another kind.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.aws import guard
from twolane_local.model import Options

from .conftest import ROOT, Call, Statement, expanded

if TYPE_CHECKING:
    from twolane_local.emulator import Emulator
    from twolane_local.model import FunctionSpec

    from ..conftest import Emulate  # noqa: TID252

#: ``stock|light TASK EMAIL OPTIONS``: publishes one task.
PRODUCER = """
import json, os, sys
from celery import Celery
producer, task, email, options = sys.argv[1:]
app = Celery("outside", broker="sqs://")
app.conf.broker_transport_options = {
    "region": "us-east-1",
    "predefined_queues": {"tasks": {"url": os.environ["QUEUE"]}},
    "claim_check": {"bucket": "local-claimcheckbucket"},
}
app.conf.task_default_queue = "tasks"
message = "Hello"
if producer == "light":
    from twolane.publish import install
    install()
    message = "x" * 1_100_000
app.send_task(task, (email, message), **json.loads(options))
"""
#: With everything on that needs a right: mail leaves only where callers are known.
KEY = "a key for the test"
PARAMETERS = {
    "RedisUrl": "", "ApiKeySha256": hashlib.sha256(KEY.encode()).hexdigest(),
    "SenderAddress": "notifications@example.com", "CreateSenderIdentity": "true",
}  # fmt: skip
ROLES = {"ApiFunction": "ApiRole", "WorkerFunction": "WorkerRole", "BeatFunction": "BeatRole"}
#: Allowed and never called by the function's own code, each for a reason.
FOR_LAMBDA = {
    "logs:CreateLogStream": "Lambda writes the function's log with the function's role",
    "logs:PutLogEvents": "Lambda writes the function's log with the function's role",
}
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
FOR_THE_MAPPING = {
    "sqs:ReceiveMessage": "the event source mapping polls with the function's role",
    "sqs:DeleteMessage": "the event source mapping deletes what a batch has done",
    "sqs:GetQueueAttributes": "the event source mapping reads the queue's settings",
}


@pytest.fixture(autouse=True)
def _named(own_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each function an access key that tells which it is."""
    plain = guard.function_environment

    def named(spec: FunctionSpec, **options: Any) -> dict[str, str]:
        return {**plain(spec, **options), "AWS_ACCESS_KEY_ID": spec.name}

    monkeypatch.setattr(guard, "function_environment", named)


class Client:
    """Talks to the demonstration as its callers do."""

    def __init__(self, emulator: Emulator, calls: set[Call]) -> None:
        self.emulator = emulator
        self.calls = calls
        (url,) = emulator.addresses.apis.values()
        self.http = httpx.AsyncClient(
            base_url=url, timeout=30, trust_env=False, headers={"X-API-Key": KEY}
        )

    async def post(self, path: str, **arguments: Any) -> str:
        answer = await self.http.post(path, **arguments)
        assert answer.status_code in {200, 202}, answer.text
        return str(answer.json().get("id", ""))

    async def finished(self, task: str) -> None:
        for _ in range(6):
            answer = await self.http.get(f"/tasks/{task}", headers={"Prefer": "wait=5"})
            if answer.json()["state"] in {"SUCCESS", "FAILURE", "REVOKED"}:
                return
        raise AssertionError(f"{answer.json()} never ended")

    async def invoke(self, function: str, event: str, *, old: str = "", new: str = "") -> None:
        text = (ROOT / "events" / event).read_text().replace(old, new)
        await self.emulator.functions.invoke(function, text.encode())

    async def called(self, function: str, *actions: str) -> None:
        """Wait until the function has made calls of each kind; nobody else tells of them."""
        missing = set(actions)
        for _ in range(600):
            missing -= {call.action for call in self.calls if call.who == function}
            if not missing:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{function} never called {missing}")


def note(email: str, **more: Any) -> dict[str, Any]:
    return {"email": email, "message": "Hello", **more}


async def every_scenario(emulator: Emulator, calls: set[Call]) -> None:
    client = Client(emulator, calls)
    async with client.http:
        assert (await client.http.get("/readyz")).status_code == 200
        await client.post("/notify", json=note("user@example.com"))
        for _ in range(2):
            plain = await client.post(
                "/notify/deferred",
                json=note("user@example.com"),
                headers={"Idempotency-Key": '"once"'},
            )
        retried = await client.post("/notify/deferred", json=note("flaky@simulator.example.com"))
        campaign = await client.post(
            "/campaigns",
            json={"recipients": ["a@example.com", "b@example.com"], "message": "Hello"},
        )
        rows = "".join(f"user{number:06}@example.com\n" for number in range(45_000))
        await client.post(
            "/imports", content=f"email\n{rows}", headers={"content-type": "text/csv"}
        )
        later = await client.post(
            "/notify/deferred", json=note("late@example.com", delay_seconds=2_000)
        )
        assert (await client.http.delete(f"/tasks/{later}")).status_code < 300
        refused: dict[str, Any] = {
            "headers": {"Idempotency-Key": '"refused"'},
            "json": {"email": "nobody"},
        }
        assert (await client.http.post("/notify/deferred", **refused)).status_code == 422
        for event in ("beat-tick.json", "beat-slot.json"):
            await client.invoke("BeatFunction", event)
        assert (await client.http.get("/schedules")).status_code == 200
        await publish_from_outside(emulator)
        for task in (plain, retried, campaign):
            await client.finished(task)
        await client.called(
            "WorkerFunction",
            "s3:GetObject", "s3:PutObject", "iam:PassRole", "sqs:ChangeMessageVisibility",
        )  # fmt: skip
        # Last: a slot that cannot be sent is given back.
        emulator.queues.delete_queue("local-TaskQueue")
        await client.invoke("BeatFunction", "beat-slot.json", old="T07", new="T08")


async def publish_from_outside(emulator: Emulator) -> None:
    """What the API never sends: a far ETA as stock producers send it, a retry above SQS's limit,
    and a task that the worker does not know and puts back.
    """
    environ = {
        **os.environ,
        "AWS_ENDPOINT_URL": emulator.addresses.aws,
        "QUEUE": emulator.addresses.queues["local-TaskQueue"],
        "PYTHONPATH": str(ROOT / "handlers"),
    }

    async def publish(producer: str, name: str, email: str, **options: float) -> None:
        # A process each: Celery has one pool of connections, and a transport is for the process.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PRODUCER, producer, f"app.tasks.{name}", email,
            json.dumps(options),
            env=environ,
        )  # fmt: skip
        assert await child.wait() == 0

    await asyncio.gather(
        publish("stock", "send_notification", "late@example.com", countdown=2_000),
        publish("light", "send_notification", "flaky@simulator.example.com", ignore_result=True),
        publish("stock", "unheard_of", "user@example.com"),
    )


@pytest.mark.slow
def test_each_function_calls_what_its_role_allows_and_nothing_else(
    calls: set[Call], emulate: Emulate
) -> None:
    options = Options(ROOT / "template.yaml", port=0, aws_port=0, parameters=PARAMETERS)
    emulate(options, lambda emulator: every_scenario(emulator, calls))
    template = expanded(**PARAMETERS)
    for function, role in ROLES.items():
        allowed = template.allowed(role)
        used = {call for call in calls if call.who == function}
        assert used
        refused = [call for call in sorted(used) if not any(one.covers(call) for one in allowed)]
        assert not refused, f"{role} does not allow {refused}"
        reasons = FOR_LAMBDA | (FOR_THE_MAPPING if function == "WorkerFunction" else {})
        idle = [one for one in allowed if not _used(one, used) and one.action not in reasons]
        assert not idle, f"{role} allows what {function} never does: {idle}"


def _used(statement: Statement, calls: set[Call]) -> bool:
    return any(statement.covers(call) for call in calls)
