"""A console over real queues, functions and a journal, asked over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.aws.event_source_mapping import EventSourceMappings
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment
from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.clock.stepped import SteppedClock
from twolane_local.console.application import Application
from twolane_local.console.server import Console, Parts
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyQueues
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


CODE = """
import json

def echo(event, context):
    return {"echo": event}

def fail(event, context):
    raise ValueError("on purpose")
"""
TASKS = '''
from celery import Celery

app = Celery("app", broker="memory://")

@app.task(max_retries=7)
def greet(name: str, *, times: int = 1):
    """Say hello."""

@app.task
def many(*numbers, **named): ...

handler = type("Handler", (), {"app": app})()
'''


class Asked:
    """A running console, its parts, and a client that has the token."""

    def __init__(self, console: Console, client: httpx.AsyncClient) -> None:
        self.console, self.client, self.parts = console, client, console.parts

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = await self.client.get(f"/api/{path}", params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = await self.client.post(f"/api/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@asynccontextmanager
async def asked(folder: Path, *, steppable: bool = True) -> AsyncIterator[Asked]:
    """Everything but the emulator itself."""
    (folder / "quiet.py").write_text(CODE)
    (folder / "work.py").write_text(TASKS)
    clock = SteppedClock()
    journal = Journal(clock)
    queues = FaultyQueues(clock, journal, rng=random.Random(7))
    faults = queues.faults = Faults(journal, clock)
    specs = [
        FunctionSpec(name, name, f"quiet.{name}", folder, timeout_s=5, memory_mb=256)
        for name in ("echo", "fail")
    ]
    worker = FunctionSpec("worker", "Worker", "work.handler", folder)
    functions = Functions(
        specs,
        lambda spec, owner: InProcessEnvironment(spec, {}, owner=owner, journal=journal),
        journal,
        maximum=1,
    )
    sent: list[tuple[str, bytes]] = []

    class Invocations:
        def submit(self, function: str, payload: bytes) -> str:
            sent.append((function, payload))
            return "request"

    parts = Parts(
        journal, clock, queues, EventSourceMappings(), functions, ScheduleBook(), Invocations(),
        Application(lambda: [worker], lambda _: {"PYTHONPATH": str(folder)}),
        lambda: {"stack": "test", "template": "/t.yaml", "mode": "in-process",
                 "addresses": {"queues": {}}, "notes": []},
        faults,
    )  # fmt: skip
    console = Console(parts, port=0, where=folder / "run")
    await console.start()
    headers = {"x-twolane-token": console.token}
    try:
        async with httpx.AsyncClient(
            base_url=console.url, headers=headers, trust_env=False, timeout=30
        ) as client:
            yield Asked(console, client)
    finally:
        await console.stop()
        await functions.close()


@pytest.fixture
def run(tmp_path: Path, own_environ: None) -> Iterator[Any]:
    """Run an async test body, which gets a console that is up."""

    def go(body: Any) -> None:
        async def main() -> None:
            async with asked(tmp_path) as up:
                await body(up)

        asyncio.run(main())

    return go
