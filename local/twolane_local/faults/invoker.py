"""Faults of functions and schedules: an ``Invoker`` and ``Invocations`` with faults."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import Invocation, Streamer, ThrottledError
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.lambda_.report import InvocationRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twolane_local.aws.invocation import Invoker, ResponseStream
    from twolane_local.aws.scheduler.targets import Invocations
    from twolane_local.clock import Clock
    from twolane_local.faults.injection import ArmedFault, Faults

#: A response that names a message of another batch, and one that is not JSON:
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
_MALFORMED = b'{"batchItemFailures": [{"itemIdentifier": "of-no-batch"}]}'
_NOT_JSON = b"<html>502 Bad Gateway</html>"


class FaultyInvoker:
    """Implements ``Invoker`` around another one."""

    def __init__(self, invoker: Invoker, faults: Faults, clock: Clock) -> None:
        self._invoker, self._faults, self._clock = invoker, faults, clock

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        target, function = function, function.partition(":")[0]
        killed = await self._before(function, event, request_id)
        if killed is not None:
            return killed
        invocation = await self._invoker.invoke(
            target, event, request_id=request_id, client_context=client_context,
            trace_headers=trace_headers,
        )  # fmt: skip
        points = ("answer", "answer.batch") if b'"Records"' in event[:20] else ("answer",)
        for point in points:
            for fault in self._faults.at(
                point, function, function=function, request_id=request_id, requestId=request_id
            ):
                invocation = _changed(invocation, fault, event)
        return invocation

    async def invoke_streaming(
        self,
        function: str,
        event: bytes,
        stream: ResponseStream,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        """Implement ``Streamer``; only the faults before the function can happen."""
        killed = await self._before(function.partition(":")[0], event, request_id)
        if killed is not None or not isinstance(self._invoker, Streamer):
            return killed or await self._invoker.invoke(
                function, event, request_id=request_id, client_context=client_context,
                trace_headers=trace_headers,
            )  # fmt: skip
        return await self._invoker.invoke_streaming(
            function, event, stream, request_id=request_id, client_context=client_context,
            trace_headers=trace_headers,
        )  # fmt: skip

    async def _before(
        self, function: str, event: bytes, request_id: str | None
    ) -> Invocation | None:
        for fault in self._faults.at("invoke", function, requestId=request_id):
            match fault.name:
                case "invocation.throttled":
                    raise ThrottledError
                case "invocation.slow":
                    await self._clock.sleep(float(fault.value("after_s")))
                case _:  # environment.killed-at-start
                    return self._killed_at_start(function, event, request_id or new_request_id())
        return None

    def _killed_at_start(self, function: str, event: bytes, request_id: str) -> Invocation:
        """Record what an environment would record: none of the pool's gets the invocation."""
        killed = _killed(request_id)
        record = InvocationRecord(self._faults.journal, function, request_id)
        record.started(cold=False, payload=event)
        record.responded(0.0, killed.error, killed.payload)
        record.ended(report.Report(0.0, 0, 0, None), report.KILLED)
        return killed


def _killed(request_id: str) -> Invocation:
    return Invocation(request_id, report.exited(request_id, -9), "Unhandled")


def _changed(invocation: Invocation, fault: ArmedFault, event: bytes) -> Invocation:
    match fault.name:
        case "environment.killed-after-task":
            return replace(_killed(invocation.request_id), cold=invocation.cold)
        case "response.malformed":
            return replace(invocation, payload=_MALFORMED)
        case "response.not-json":
            return replace(invocation, payload=_NOT_JSON)
        case _:  # response.partial-batch
            return replace(invocation, payload=_one_more_failure(invocation, fault, event))


def _one_more_failure(invocation: Invocation, fault: ArmedFault, event: bytes) -> bytes:
    """Return the response with one more message among its failures."""
    records: list[dict[str, Any]] = json.loads(event).get("Records", [])
    response = json.loads(invocation.payload or b"null") or {}
    failures = list(response.get("batchItemFailures") or [])
    named = {failure.get("itemIdentifier") for failure in failures}
    done = [record["messageId"] for record in records if record.get("messageId") not in named]
    if done:
        failures.append({"itemIdentifier": fault.rng.choice(done)})
    return json.dumps({**response, "batchItemFailures": failures}).encode()


class FaultyTicks:
    """Implements ``Invocations`` around another one.

    ``later(seconds, call)`` is the event loop's ``call_later``.
    """

    def __init__(
        self,
        invocations: Invocations,
        faults: Faults,
        later: Callable[[float, Callable[[], object]], object],
    ) -> None:
        self._invocations, self._faults, self._later = invocations, faults, later

    async def publish(self, topic_arn: str, message: str) -> None:
        await self._invocations.publish(topic_arn, message)

    def submit(self, function: str, payload: bytes) -> str:
        name = function.partition(":")[0]
        faults = {each.name: each for each in self._faults.at("tick", name)}
        if "tick.missed" in faults:
            return ""
        if "tick.doubled" in faults:
            self._invocations.submit(function, payload)
        late = faults.get("tick.late")
        if late is not None:
            submit = partial(self._invocations.submit, function, payload)
            self._later(float(late.value("after_s")), submit)
            return ""
        return self._invocations.submit(function, payload)
