"""Faults of invocations and their responses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from twolane_local.aws.event_source_mapping import batch_item_failures
from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.clock import SystemClock
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyInvoker
from twolane_local.journal import Journal

BATCH = json.dumps({"Records": [{"messageId": "m1"}, {"messageId": "m2"}]}).encode()


class Inner:
    def __init__(self) -> None:
        self.events: list[bytes] = []

    async def invoke(self, function: str, event: bytes, **_: Any) -> Invocation:
        self.events.append(event)
        return Invocation("r1", b'{"batchItemFailures": []}')


def invoke(name: str, event: bytes = BATCH, **options: Any) -> tuple[Invocation, Inner]:
    clock = SystemClock()
    faults = Faults(Journal(clock), clock)
    faults.inject(name, **options)
    inner = Inner()
    invoker = FaultyInvoker(inner, faults, clock)
    return asyncio.run(invoker.invoke("worker", event)), inner


def test_a_throttle() -> None:
    with pytest.raises(ThrottledError):
        invoke("invocation.throttled")


def test_an_environment_that_dies_before_anything_runs() -> None:
    invocation, inner = invoke("environment.killed-at-start")
    assert invocation.error == "Unhandled"
    assert json.loads(invocation.payload)["errorType"] == "Runtime.ExitError"
    assert inner.events == []


def test_an_environment_that_dies_once_all_has_run() -> None:
    invocation, inner = invoke("environment.killed-after-task")
    assert invocation.error == "Unhandled"
    assert inner.events == [BATCH]


@pytest.mark.parametrize("name", ["response.malformed", "response.not-json"])
def test_an_answer_that_fails_the_whole_batch(name: str) -> None:
    invocation, _ = invoke(name)
    outcome = batch_item_failures(invocation.payload, {"m1", "m2"})
    assert outcome.failed == {"m1", "m2"}
    assert outcome.reason


def test_one_failure_more() -> None:
    invocation, _ = invoke("response.partial-batch")
    outcome = batch_item_failures(invocation.payload, {"m1", "m2"})
    assert len(outcome.failed) == 1
    assert outcome.reason is None


def test_an_answer_to_a_request_is_no_batch_s() -> None:
    invocation, _ = invoke("response.malformed", b'{"version": "2.0"}')
    assert invocation.payload == b'{"batchItemFailures": []}'


def test_a_late_start() -> None:
    invocation, inner = invoke("invocation.slow", after_s=0.01)
    assert inner.events == [BATCH]
    assert invocation.error is None
