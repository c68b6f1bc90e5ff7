"""A mapping in virtual time, with a function written in the test."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.event_source_mapping import EventSourceMapping
from twolane_local.aws.invocation import Invocation, RecursiveInvocationError, ThrottledError
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.journal import Journal
from twolane_local.model import QueueMappingSpec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from twolane_local.clock.virtual import VirtualClock

    Function = Callable[[dict[str, Any]], Awaitable[Any]]


class FunctionError(Exception):
    """Raised by the function of a test to fail."""


@dataclass
class World:
    """One queue ``q``, its dead-letter queue ``dead``, and a function with its invocations."""

    clock: VirtualClock
    function: Function
    attributes: dict[str, str] = field(default_factory=dict)
    name: str = "q"
    reserved: int | None = None
    #: Trace headers for which the function is not invoked; and those of each invocation.
    recursive: frozenset[str] = frozenset()
    traces: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.clock)
        self.queues = QueueService(self.clock, self.journal, rng=random.Random(5))
        self.queues.create("dead")
        self.queues.create(self.name, self.attributes)
        self.events: list[tuple[float, list[str]]] = []
        self.running = self.most_running = 0
        self.start = self.clock.time()
        self.tasks: list[asyncio.Task[None]] = []

    def elapsed(self) -> float:
        return round(self.clock.time() - self.start, 3)

    def mapping(self, queue: str | None = None, **spec: Any) -> EventSourceMapping:
        arn = self.queues.arn(queue or self.name)
        return EventSourceMapping(
            QueueMappingSpec("worker", arn, **spec), self.queues, self, self.clock, self.journal
        )

    def send(self, *bodies: str, **more: Any) -> None:
        for body in bodies:
            self.queues.send(self.name, NewMessage(body, **more))

    def left(self, name: str | None = None) -> list[str]:
        return [entry.message.body for entry in self.queues.refreshed(name or self.name)]

    def bodies(self) -> list[list[str]]:
        return [bodies for _, bodies in self.events]

    def all_bodies(self) -> list[str]:
        return [body for bodies in self.bodies() for body in bodies]

    def kinds(self, kind: str) -> list[Any]:
        return [event for event in self.journal if event.kind == kind]

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        assert function == "worker"
        if over := self.recursive.intersection(trace_headers):
            raise RecursiveInvocationError(function, over)
        self.traces.append(list(trace_headers))
        if self.reserved is not None and self.running >= self.reserved:
            raise ThrottledError
        parsed = json.loads(event)
        self.events.append((self.elapsed(), [one["body"] for one in parsed["Records"]]))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            answer = await self.function(parsed)
        except FunctionError as error:
            payload = json.dumps({"errorMessage": str(error), "errorType": "FunctionError"})
            return Invocation(request_id or "", payload.encode(), "Unhandled")
        finally:
            self.running -= 1
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return Invocation(request_id or "", raw)


@pytest.fixture
def world() -> type[World]:
    return World


@pytest.fixture
def function_error() -> type[FunctionError]:
    return FunctionError
