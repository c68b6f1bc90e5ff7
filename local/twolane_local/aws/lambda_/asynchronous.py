"""Asynchronous invocation: accepted at once, run later, tried again, then sent somewhere.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html

- A function error is tried again twice, after one minute and then two.
- A throttle or system error is tried again for up to six hours, after one second at first and five
  minutes at most.
- A recursive loop is not tried again:
  https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
- What still fails goes to the on-failure destination and to the dead-letter queue; what succeeds to
  the on-success destination.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws.invocation import (
    LATEST,
    RecursiveInvocationError,
    ThrottledError,
    executed_version,
    resolve,
    target_of,
)
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.errors import LocalError
from twolane_local.journal.json_log import JsonLog, PersistenceError, StateLog
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
class Asked:
    """An accepted event; ``accepted_at`` in epoch seconds, ``tries`` that have ended so far."""

    function: str
    request_id: str
    payload: bytes
    client_context: str = ""
    accepted_at: float = 0.0
    tries: int = 0
    trace_header: str = ""


class EventLog:
    """What is accepted and has not ended, in a directory."""

    def __init__(self, directory: Path) -> None:
        """Raises ``PersistenceError`` where another emulator has the directory."""
        self._log = JsonLog(directory, FILE)
        self._open: dict[str, Asked] = {}
        self._state_log = StateLog(self._log, lambda: map(_shown, self._open.values()))
        for line in self._log.lines():
            self._replay(line)
        self._state_log.rewrite()

    def pending(self) -> list[Asked]:
        """The events that have not ended, the oldest first."""
        return list(self._open.values())

    def accepted(self, asked: Asked) -> None:
        """Raises ``PersistenceError`` where it is not kept, and is not accepted therefore."""
        self._replay(_shown(asked))
        try:
            self._state_log.append(_shown(asked))
        except PersistenceError:
            self._open.pop(asked.request_id)
            raise

    def tried(self, asked: Asked) -> None:
        self._change({"do": "tried", "id": asked.request_id, "tries": asked.tries})

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
                self._open[line["id"]] = Asked(
                    line["function"], line["id"], base64.b64decode(line["payload"]),
                    line["context"], line["at"], line["tries"],
                    line.get("trace", ""),
                )  # fmt: skip
            case "tried":
                self._open[line["id"]] = replace(self._open[line["id"]], tries=line["tries"])
            case "ended":
                self._open.pop(line["id"], None)


def _shown(asked: Asked) -> dict[str, Any]:
    return {
        "do": "accepted",
        "id": asked.request_id,
        "function": asked.function,
        "payload": base64.b64encode(asked.payload).decode(),
        "context": asked.client_context,
        "at": asked.accepted_at,
        "tries": asked.tries,
        "trace": asked.trace_header,
    }


RETRY_AFTER_S = (60.0, 120.0)
THROTTLE_FIRST_S, THROTTLE_MOST_S = 1.0, 300.0
MAXIMUM_AGE_S = 21_600


@dataclass(frozen=True, slots=True)
class Ended:
    """How an asynchronous invocation ended, after all its tries.

    ``condition`` is Success, RetriesExhausted, EventAgeExceeded or (a name that AWS does not
    document) RecursiveInvocation; ``last`` is ``None`` where the function was never invoked.
    """

    asked: Asked
    condition: str
    tries: int
    last: Invocation | None
    at: float


class Deliver(Protocol):
    """Sends a record to a destination that is not ours: an SNS topic or an event bus."""

    async def __call__(self, arn: str, body: str) -> None: ...


class AsyncInvocations:
    """Runs ``Event`` invocations. ``submit`` needs the event loop running."""

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
        """``log`` keeps what is accepted until it has ended; ``resume`` then takes it up again."""
        self._log = log
        self._invoker, self._functions, self._queues = invoker, functions, queues
        self._clock, self._journal, self._deliver = clock, journal, deliver
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(
        self, function: str, payload: bytes, *, client_context: str = "", trace_header: str = ""
    ) -> str:
        """Accept an event for ``function``; gives the request id. ``KeyError`` if there is none."""
        spec, _ = resolve(self._functions, function)
        asked = Asked(
            function, str(uuid.uuid4()), payload, client_context, self._clock.time(),
            trace_header=trace_header,
        )  # fmt: skip
        if self._log is not None:
            self._log.accepted(asked)
        self._start(spec, asked)
        return asked.request_id

    async def publish(self, topic_arn: str, message: str) -> None:
        """Send a message to a topic, as a destination gets its records."""
        if self._deliver is None:
            raise LocalError(f"nothing here delivers to {topic_arn}")
        await self._deliver(topic_arn, message)

    def resume(self) -> None:
        """Take up again, at once, what was accepted before the process ended."""
        for asked in self._log.pending() if self._log is not None else ():
            try:
                spec, _ = resolve(self._functions, asked.function)
            except KeyError:
                self._say(asked.function, f"event {asked.request_id} is dropped: no such function")
                self._forget(asked)
            else:
                self._start(spec, asked)

    def _start(self, spec: FunctionSpec, asked: Asked) -> None:
        task = asyncio.create_task(self._run(spec, asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop; what is still waiting for a retry is lost, unless a log keeps it."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, asked: Asked) -> None:
        if self._log is not None:
            self._log.ended(asked.request_id)

    async def _run(self, spec: FunctionSpec, asked: Asked) -> None:
        settings = _settings(spec, asked)
        retries = int(settings.get("MaximumRetryAttempts", len(RETRY_AFTER_S)))
        max_age = float(settings.get("MaximumEventAgeInSeconds", MAXIMUM_AGE_S))
        throttle_pause = THROTTLE_FIRST_S
        # One that was killed between its last try and its end is tried once more.
        tries = min(asked.tries, retries)
        last: Invocation | None = None
        condition = "RetriesExhausted"
        while tries <= retries:
            try:
                last = await self._invoker.invoke(
                    asked.function,
                    asked.payload,
                    request_id=asked.request_id,
                    client_context=asked.client_context,
                    trace_headers=[asked.trace_header] if asked.trace_header else (),
                )
            except RecursiveInvocationError:
                condition = "RecursiveInvocation"
                break
            except ThrottledError:
                pause, throttle_pause = throttle_pause, min(throttle_pause * 2, THROTTLE_MOST_S)
            except Exception as error:  # noqa: BLE001 - a system error is tried again like a throttle
                self._say(spec.name, f"invocation failed and is tried again: {error!r}")
                pause, throttle_pause = throttle_pause, min(throttle_pause * 2, THROTTLE_MOST_S)
            else:
                tries += 1
                if self._log is not None:
                    self._log.tried(replace(asked, tries=tries))
                if last.error is None:
                    condition = "Success"
                    break
                pause = RETRY_AFTER_S[min(tries, len(RETRY_AFTER_S)) - 1]
                if tries > retries:
                    break
                self._say(
                    spec.name,
                    f"the function failed asynchronously ({tries} of {retries + 1}); it is tried "
                    f"again in {pause:.0f} s",
                    level="WARNING",
                )
            if self._clock.time() + pause > asked.accepted_at + max_age:
                condition = "EventAgeExceeded"
                break
            await self._clock.sleep(pause)
        await self._finish(spec, Ended(asked, condition, tries, last, self._clock.time()))
        self._forget(asked)

    async def _finish(self, spec: FunctionSpec, ended: Ended) -> None:
        succeeded = ended.condition == "Success"
        destinations = _settings(spec, ended.asked).get("DestinationConfig") or {}
        side = destinations.get("OnSuccess" if succeeded else "OnFailure") or {}
        if target := side.get("Destination"):
            await self._send(spec, target, json.dumps(destination_record(spec, ended)), {})
        if not succeeded and spec.dead_letter_arn:
            attributes = dead_letter_attributes(ended)
            await self._send(spec, spec.dead_letter_arn, ended.asked.payload.decode(), attributes)

    async def _send(
        self, spec: FunctionSpec, arn: str, body: str, attributes: dict[str, AttributeValue]
    ) -> None:
        """Send to a queue or function here, or by ``deliver``; what cannot be sent is said."""
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
                self._say(spec.name, f"nothing here delivers to the destination {arn}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the event's end must be told
            self._say(spec.name, f"the destination {arn} did not take the event: {error!r}")

    def _say(self, function: str, message: str, level: str = "ERROR") -> None:
        self._journal.record("log", function=function, level=level, message=message)


def _settings(spec: FunctionSpec, asked: Asked) -> Mapping[str, Any]:
    """Those of the version or alias that was asked for: each has its own.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html
    """
    _, _, qualifier = asked.function.partition(":")
    if qualifier in {"", LATEST}:
        return spec.event_invoke
    return spec.qualified_invoke.get(qualifier, {})


def destination_record(spec: FunctionSpec, ended: Ended) -> dict[str, Any]:
    """What a destination gets.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    _, _, qualifier = ended.asked.function.partition(":")
    stamp = datetime.fromtimestamp(ended.at, UTC).isoformat(timespec="milliseconds")
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": stamp.replace("+00:00", "Z"),
        "requestContext": {
            "requestId": ended.asked.request_id,
            "functionArn": f"{spec.arn}:{qualifier or LATEST}",
            "condition": ended.condition,
            "approximateInvokeCount": ended.tries,
        },
        "requestPayload": json.loads(ended.asked.payload or b"null"),
    }
    if ended.last is not None:
        record["responseContext"] = {
            "statusCode": 200,
            "executedVersion": executed_version(qualifier),
        }
        if ended.last.error is not None:
            record["responseContext"]["functionError"] = ended.last.error
        record["responsePayload"] = json.loads(ended.last.payload or b"null")
    return record


def dead_letter_attributes(ended: Ended) -> dict[str, AttributeValue]:
    """The attributes of a message on a function's dead-letter queue.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq
    """
    code, message = "429", "Rate Exceeded."
    if ended.condition == "RecursiveInvocation":
        code, message = "400", "Recursive invocation detected."
    if ended.last is not None:
        code = "200"
        problem = json.loads(ended.last.payload or b"null")
        message = str(problem.get("errorMessage", "")) if isinstance(problem, dict) else ""
    return {
        "RequestID": AttributeValue("String", ended.asked.request_id),
        "ErrorCode": AttributeValue("Number", code),
        "ErrorMessage": AttributeValue("String", message[:1024] or "Unhandled"),
    }
