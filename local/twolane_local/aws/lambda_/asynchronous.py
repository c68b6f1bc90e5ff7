"""Asynchronous invocation: accepts events at once, runs and retries them, and sends the results.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html

- A function error is retried twice, after one minute and after two.
- A throttle or system error is retried for up to six hours, after one second at first and five
  minutes at most.
- A recursive loop is not retried:
  https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
- An event that still fails goes to the on-failure destination and to the dead-letter queue, one
  that succeeds to the on-success destination.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import (
    RecursiveInvocationError,
    TenancyError,
    ThrottledError,
    UnknownFunctionError,
    resolve,
    target_of,
    tenancy,
)
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.errors import LocalError
from twolane_local.journal.files import JsonLog, PersistenceError, StateLog
from twolane_local.model import LATEST
from twolane_local.model.message import AttributeValue

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twolane_local.aws.invocation import Invocation, Invoker
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


FILE = "events.jsonl"


@dataclass(frozen=True, slots=True)
class AsyncEvent:
    """An accepted event; ``accepted_at`` is in epoch seconds, ``tries`` counts those that ended."""

    function: str
    request_id: str
    payload: bytes
    client_context: str = ""
    accepted_at: float = 0.0
    tries: int = 0
    trace_header: str = ""
    tenant_id: str = ""


class EventLog:
    """The accepted events that have not ended, in a directory."""

    def __init__(self, directory: Path) -> None:
        """Raises ``PersistenceError`` if another emulator uses the directory."""
        self._log = JsonLog(directory, FILE)
        self._open: dict[str, AsyncEvent] = {}
        self._state_log = StateLog(self._log, lambda: map(_accepted_line, self._open.values()))
        for line in self._log.lines():
            self._replay(line)
        self._state_log.rewrite()

    def pending(self) -> list[AsyncEvent]:
        """The events that have not ended, the oldest first."""
        return list(self._open.values())

    def accepted(self, event: AsyncEvent) -> None:
        """Raises ``PersistenceError`` if the event cannot be kept; it is not accepted then."""
        self._replay(_accepted_line(event))
        try:
            self._state_log.append(_accepted_line(event))
        except PersistenceError:
            self._open.pop(event.request_id)
            raise

    def tried(self, event: AsyncEvent) -> None:
        self._change({"do": "tried", "id": event.request_id, "tries": event.tries})

    def ended(self, request_id: str) -> None:
        self._change({"do": "ended", "id": request_id})

    def close(self) -> None:
        self._log.close()

    def _change(self, line: dict[str, Any]) -> None:
        self._replay(line)
        self._state_log.append_later(line)

    def _replay(self, line: dict[str, Any]) -> None:
        match line["do"]:
            case "accepted":
                self._open[line["id"]] = AsyncEvent(
                    line["function"], line["id"], base64.b64decode(line["payload"]),
                    line["context"], line["at"], line["tries"],
                    line.get("trace", ""), line.get("tenant", ""),
                )  # fmt: skip
            case "tried":
                self._open[line["id"]] = replace(self._open[line["id"]], tries=line["tries"])
            case "ended":
                self._open.pop(line["id"], None)


def _accepted_line(event: AsyncEvent) -> dict[str, Any]:
    return {
        "do": "accepted",
        "id": event.request_id,
        "function": event.function,
        "payload": base64.b64encode(event.payload).decode(),
        "context": event.client_context,
        "at": event.accepted_at,
        "tries": event.tries,
        "trace": event.trace_header,
        "tenant": event.tenant_id,
    }


RETRY_AFTER_S = (60.0, 120.0)
THROTTLE_FIRST_S, THROTTLE_MOST_S = 1.0, 300.0
MAXIMUM_AGE_S = 21_600


@dataclass(frozen=True, slots=True)
class AsyncOutcome:
    """The outcome of an asynchronous invocation, after all its tries.

    ``condition`` is Success, RetriesExhausted, EventAgeExceeded or (a name that AWS does not
    document) RecursiveInvocation; ``last`` is ``None`` if the function was never invoked.
    """

    event: AsyncEvent
    condition: str
    tries: int
    last: Invocation | None
    at: float


#: The errors after which an event is not tried again, and its condition then. A function may be
#: deleted while its event waits.
_FINAL: dict[type[Exception], str] = {
    RecursiveInvocationError: "RecursiveInvocation",
    UnknownFunctionError: "RetriesExhausted",
}
#: Sends a record (ARN and body) to an SNS topic or an event bus.
Deliver = Callable[[str, str], Awaitable[None]]


class AsyncInvocations:
    """Runs ``Event`` invocations, on the running event loop."""

    def __init__(
        self,
        invoker: Invoker,
        functions: Mapping[str, FunctionSpec],
        queues: QueueService,
        clock: Clock,
        journal: Journal,
        *,
        deliver: Deliver | None = None,
        log: EventLog | None = None,
    ) -> None:
        """``log`` keeps events until they have ended; ``resume`` continues with those."""
        self._event_log = log
        self._invoker, self._functions, self._queues = invoker, functions, queues
        self._clock, self._journal, self._deliver = clock, journal, deliver
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(
        self,
        function: str,
        payload: bytes,
        *,
        client_context: str = "",
        trace_header: str = "",
        tenant_id: str = "",
    ) -> str:
        """Accept an event and return its request id.

        Raises ``KeyError`` for an unknown function, and ``TenancyError``.
        """
        spec, _ = resolve(self._functions, function)
        if spec.tenant_isolation is not bool(tenant_id):
            raise TenancyError(isolates=spec.tenant_isolation)
        event = AsyncEvent(
            function, str(uuid.uuid4()), payload, client_context, self._clock.time(),
            trace_header=trace_header, tenant_id=tenant_id,
        )  # fmt: skip
        if self._event_log is not None:
            self._event_log.accepted(event)
        self._start(spec, event)
        return event.request_id

    async def publish(self, topic_arn: str, message: str) -> None:
        """Send a message to a topic; raises ``LocalError`` if nothing delivers to it."""
        if self._deliver is None:
            raise LocalError(f"nothing here delivers to {topic_arn}")
        await self._deliver(topic_arn, message)

    def resume(self) -> None:
        """Start the events that were accepted before the process ended."""
        for event in self._event_log.pending() if self._event_log is not None else ():
            try:
                spec, _ = resolve(self._functions, event.function)
            except KeyError:
                self._log(event.function, f"event {event.request_id} is dropped: no such function")
                self._forget(event)
            else:
                self._start(spec, event)

    def _start(self, spec: FunctionSpec, event: AsyncEvent) -> None:
        task = asyncio.create_task(self._run(spec, event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop; events that wait for a retry are lost unless a log keeps them."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, event: AsyncEvent) -> None:
        if self._event_log is not None:
            self._event_log.ended(event.request_id)

    async def _run(self, spec: FunctionSpec, event: AsyncEvent) -> None:
        settings = _settings(spec, event)
        retries = int(settings.get("MaximumRetryAttempts", len(RETRY_AFTER_S)))
        max_age = float(settings.get("MaximumEventAgeInSeconds", MAXIMUM_AGE_S))
        throttle_pause = THROTTLE_FIRST_S
        # An event whose process was killed between the last try and the end is tried once more.
        tries = min(event.tries, retries)
        last: Invocation | None = None
        condition = "RetriesExhausted"
        while tries <= retries:
            try:
                last = await self._invoker.invoke(
                    event.function,
                    event.payload,
                    request_id=event.request_id,
                    client_context=event.client_context,
                    trace_headers=[event.trace_header] if event.trace_header else (),
                    **tenancy(event.tenant_id),
                )
            except tuple(_FINAL) as error:
                condition = _FINAL[type(error)]
                break
            except ThrottledError:
                pause, throttle_pause = throttle_pause, min(throttle_pause * 2, THROTTLE_MOST_S)
            except Exception as error:  # noqa: BLE001 - a system error is retried like a throttle
                self._log(spec.name, f"invocation failed and is retried: {error!r}")
                pause, throttle_pause = throttle_pause, min(throttle_pause * 2, THROTTLE_MOST_S)
            else:
                tries += 1
                if self._event_log is not None:
                    self._event_log.tried(replace(event, tries=tries))
                if last.error is None:
                    condition = "Success"
                    break
                pause = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1]
                if tries > retries:
                    break
                self._log(
                    spec.name,
                    f"the function failed asynchronously ({tries} of {retries + 1}); it is retried "
                    f"in {pause:.0f} s",
                    level="WARNING",
                )
            if self._clock.time() + pause > event.accepted_at + max_age:
                condition = "EventAgeExceeded"
                break
            await self._clock.sleep(pause)
        await self._finish(spec, AsyncOutcome(event, condition, tries, last, self._clock.time()))
        self._forget(event)

    async def _finish(self, spec: FunctionSpec, outcome: AsyncOutcome) -> None:
        succeeded = outcome.condition == "Success"
        destinations = _settings(spec, outcome.event).get("DestinationConfig") or {}
        side = destinations.get("OnSuccess" if succeeded else "OnFailure") or {}
        if target := side.get("Destination"):
            await self._send(spec, target, json.dumps(destination_record(spec, outcome)), {})
        if not succeeded and spec.dead_letter_arn:
            attributes = dead_letter_attributes(outcome)
            await self._send(spec, spec.dead_letter_arn, outcome.event.payload.decode(), attributes)

    async def _send(
        self, spec: FunctionSpec, arn: str, body: str, attributes: dict[str, AttributeValue]
    ) -> None:
        """Send to a queue or function here, or by ``deliver``; logs what cannot be sent."""
        parts = arn.split(":")
        try:
            if parts[2] == "sqs":
                queue = self._queues.get_by_arn(arn)
                self._queues.send(queue.name, NewMessage(body, attributes=attributes))
            elif parts[2] == "lambda":
                self.submit(target_of(arn), body.encode())
            elif self._deliver is not None:
                await self._deliver(arn, body)
            else:
                self._log(spec.name, f"nothing here delivers to the destination {arn}")
        except Exception as error:  # noqa: BLE001 - any error must be logged
            self._log(spec.name, f"the destination {arn} did not take the event: {error!r}")

    def _log(self, function: str, message: str, level: str = "ERROR") -> None:
        self._journal.record("log", function=function, level=level, message=message)


def _settings(spec: FunctionSpec, event: AsyncEvent) -> Mapping[str, Any]:
    """The settings of the version or alias that the event names; each has its own.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html
    """
    _, _, qualifier = event.function.partition(":")
    if qualifier in {"", LATEST}:
        return spec.event_invoke
    return spec.qualified_invoke.get(qualifier, {})


def destination_record(spec: FunctionSpec, outcome: AsyncOutcome) -> dict[str, Any]:
    """The record that a destination gets.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    _, _, qualifier = outcome.event.function.partition(":")
    stamp = datetime.fromtimestamp(outcome.at, UTC).isoformat(timespec="milliseconds")
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": stamp.replace("+00:00", "Z"),
        "requestContext": {
            "requestId": outcome.event.request_id,
            "functionArn": f"{spec.arn}:{qualifier or LATEST}",
            "condition": outcome.condition,
            "approximateInvokeCount": outcome.tries,
        },
        "requestPayload": json.loads(outcome.event.payload or b"null"),
    }
    if outcome.last is not None:
        record["responseContext"] = {
            "statusCode": 200,
            "executedVersion": outcome.last.version,
        }
        if outcome.last.error is not None:
            record["responseContext"]["functionError"] = outcome.last.error
        record["responsePayload"] = json.loads(outcome.last.payload or b"null")
    return record


def dead_letter_attributes(outcome: AsyncOutcome) -> dict[str, AttributeValue]:
    """The attributes of a message on a function's dead-letter queue.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq
    """
    code, message = "429", "Rate Exceeded."
    if outcome.condition == "RecursiveInvocation":
        code, message = "400", "Recursive invocation detected."
    if outcome.last is not None:
        code = "200"
        problem = json.loads(outcome.last.payload or b"null")
        message = str(problem.get("errorMessage", "")) if isinstance(problem, dict) else ""
    return {
        "RequestID": AttributeValue("String", outcome.event.request_id),
        "ErrorCode": AttributeValue("Number", code),
        "ErrorMessage": AttributeValue("String", message[:1024] or "Unhandled"),
    }
