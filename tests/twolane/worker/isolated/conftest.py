"""A worker function in an isolated environment: AWS's runtime client, in a process of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws import guard
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.process import SpawnLauncher
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.aws.lambda_.environment import Environment, Owner

HERE = Path(__file__).parent


class Function:
    """One function, its environments, and what the journal says of them."""

    def __init__(self, module: str, environ: dict[str, str], timeout_s: float) -> None:
        self._spec = FunctionSpec(
            "fn", "Fn", f"{module}.handler", HERE, timeout_s=timeout_s, environment=environ
        )
        self._loop = asyncio.new_event_loop()
        self.journal = Journal(SystemClock())
        self._launcher = SpawnLauncher()
        self._functions = self._loop.run_until_complete(self._start())

    async def _start(self) -> Functions:
        return Functions([self._spec], self._make, self.journal)

    def _make(self, spec: FunctionSpec, owner: Owner) -> Environment:
        environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")
        return IsolatedEnvironment(
            spec, environ, owner=owner, launcher=self._launcher, journal=self.journal
        )

    def __call__(self, event: dict[str, Any]) -> tuple[Any, str | None]:
        """The answer to an event, and the error that Lambda would report."""
        invoke = self._functions.invoke("fn", json.dumps(event).encode())
        outcome = self._loop.run_until_complete(invoke)
        return json.loads(outcome.payload), outcome.error

    def lines(self) -> str:
        """All that its environments have written."""
        return "\n".join(repr(event) for event in self.journal if event.kind == "log.line")

    def close(self) -> None:
        self._loop.run_until_complete(self._functions.close())
        self._loop.run_until_complete(self._launcher.close())
        self._loop.close()


@pytest.fixture(scope="module")
def function() -> Iterator[Callable[..., Function]]:
    """``function(module, environ, timeout_s)``: one whose handler is in that module here."""
    started: list[Function] = []

    def start(module: str, environ: dict[str, str], timeout_s: float = 20.0) -> Function:
        started.append(Function(module, environ, timeout_s))
        return started[-1]

    yield start
    for one in started:
        one.close()


def record(
    task: str,
    *args: Any,
    task_id: str,
    received: int = 1,
    limit_s: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One record of an SQS event, as Celery publishes it."""
    message = {
        "body": json.dumps([args, {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py", "task": task, "id": task_id, "retries": 0, "timelimit": [limit_s, None],
            **more,
        },
        "properties": {"body_encoding": "utf-8", "delivery_tag": f"tag-{task_id}"},
    }  # fmt: skip
    return {
        "messageId": f"m-{task_id}",
        "receiptHandle": f"{task_id}/{received}",
        "body": json.dumps(message),
        "attributes": {"ApproximateReceiveCount": str(received)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:tasks",
        "awsRegion": "us-east-1",
    }


@pytest.fixture(scope="session")
def sqs_record() -> Callable[..., dict[str, Any]]:
    return record
