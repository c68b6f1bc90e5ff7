"""The seams at which faults strike: queues, functions and schedules.

``FaultyQueues`` is a ``QueueService`` whose calls fail and whose messages' bodies change;
``FaultyInvoker`` an ``Invoker``, ``FaultyTicks`` the ``Invocations`` of schedules.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import Invocation, Streamer, ThrottledError, tenancy
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.lambda_.report import InvocationRecord
from twolane_local.aws.sqs.errors import ServiceUnavailableError, SqsError
from twolane_local.aws.sqs.service import QueueService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twolane_local.aws.invocation import Invoker, ResponseStream
    from twolane_local.aws.scheduler.targets import Invocations
    from twolane_local.aws.sqs.service import NewMessage
    from twolane_local.clock import Clock
    from twolane_local.faults.injection import ArmedFault, Faults
    from twolane_local.model.message import Message, Received


#: The largest message that SQS takes, in bytes:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LIMIT = 1_048_576
#: Reading a body that is not a task may raise any of these.
_NO_TASK = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def unknown_task(body: str) -> str:
    """Rename the body's task to one that no worker has; another body stays as it is."""
    try:
        envelope = json.loads(body)
        envelope["headers"]["task"] = "gone.in.this.deploy"
        return json.dumps(envelope)
    except _NO_TASK:
        return body


def _arguments(envelope: Any) -> tuple[Any, bool]:
    """Return the decoded body of the task, and whether it was in base64."""
    encoded = envelope["properties"].get("body_encoding") == "base64"
    text = base64.b64decode(envelope["body"]).decode() if encoded else envelope["body"]
    return json.loads(text), encoded


def has_consequences(body: str) -> bool:
    """Return whether more than storing the result follows a failure: a chord, chain or errback."""
    try:
        (_, _, embed), _ = _arguments(json.loads(body))
    except _NO_TASK:
        return False
    return isinstance(embed, dict) and any(
        embed.get(name) for name in ("chord", "chain", "errbacks")
    )


def changed_signature(body: str) -> str:
    """Add an argument that the task does not take; a body that is not a task stays as it is."""
    try:
        envelope = json.loads(body)
        (args, kwargs, embed), encoded = _arguments(envelope)
        text = json.dumps([args, {**kwargs, "an_argument_of_the_next_deploy": 1}, embed])
        envelope["body"] = base64.b64encode(text.encode()).decode() if encoded else text
        return json.dumps(envelope)
    except _NO_TASK:
        return body


def poison(_: str) -> str:
    return "\N{SKULL AND CROSSBONES} this is no task"


def truncated(body: str) -> str:
    return body[: len(body) // 2]


def at_the_limit(body: str) -> str:
    """Pad the body to exactly 1 MiB; JSON ignores white space after its end."""
    return body + " " * max(0, LIMIT - len(body.encode()))


#: The function that changes a body, by the fault's name.
BODIES: Mapping[str, Callable[[str], str]] = {
    "message.unknown-task": unknown_task,
    "message.changed-signature": changed_signature,
    "message.poison-body": poison,
    "message.truncated": truncated,
    "message.at-the-limit": at_the_limit,
}


def task_id_of(body: str) -> str | None:
    """Return the id of the body's task, or ``None`` if it is not a task."""
    return _header(body, "id")


def task_name_of(body: str) -> str | None:
    """Return the name of the body's task, or ``None`` if it is not a task."""
    return _header(body, "task")


def _header(body: str, name: str) -> str | None:
    try:
        envelope: Any = json.loads(body)
        return str(envelope["headers"][name])
    except _NO_TASK:
        return None


class RequestTimeoutError(SqsError, code="RequestTimeout", status=503):
    """The request timed out; it may have been carried out."""


class FaultyQueues(QueueService):
    """A ``QueueService`` with faults, if ``faults`` is set."""

    faults: Faults | None = None

    def send(self, name: str, new: NewMessage) -> Message:
        lost = False
        for fault in self._at("send", name):
            match fault.name:
                case "send.failed":
                    raise ServiceUnavailableError
                case "send.reply-lost":
                    lost = True
                case "queue.reordered":
                    hold = max(new.delay_s or 0, fault.value("hold_s"))
                    new = replace(new, delay_s=hold)
                case spoiled:
                    new = replace(new, body=BODIES[spoiled](new.body))
        message = super().send(name, new)
        if lost:
            raise RequestTimeoutError
        return message

    def receive(
        self,
        name: str,
        limit: int = 1,
        *,
        visibility_s: float | None = None,
        attempt_id: str | None = None,
    ) -> list[Received]:
        def take() -> list[Received]:
            return super(FaultyQueues, self).receive(
                name, limit, visibility_s=visibility_s, attempt_id=attempt_id
            )

        with self._lock:
            if self.faults is None or not self.refreshed(name).ready():
                return take()  # a poll that finds nothing does not count as an occasion
            faults = {fault.name for fault in self._at("receive", name)}
            if "receive.failed" in faults:
                raise ServiceUnavailableError
            messages = take()
            if "receive.reply-lost" in faults:
                raise RequestTimeoutError
            if "queue.two-deliveries-at-once" in faults:
                for received in messages:
                    super().change_visibility(name, received.receipt_handle, 0)
            return messages

    def delete(self, name: str, receipt_handle: str) -> bool:
        lost = False
        for fault in self._at("delete", name):
            match fault.name:
                case "delete.failed":
                    raise ServiceUnavailableError
                case "delete.reply-lost":
                    lost = True
                case _:  # queue.duplicate-delivery: a server kept its copy
                    super().change_visibility(name, receipt_handle, int(fault.value("after_s")))
                    return True
        deleted = super().delete(name, receipt_handle)
        if lost:
            raise RequestTimeoutError
        return deleted

    def change_visibility(self, name: str, receipt_handle: str, seconds: int) -> None:
        if self._at("visibility", name):
            raise ServiceUnavailableError
        super().change_visibility(name, receipt_handle, seconds)

    def _at(self, point: str, name: str) -> Any:
        return () if self.faults is None or self.faults.idle else self.faults.at(point, name)


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
        tenant_id: str = "",
    ) -> Invocation:
        target, function = function, function.partition(":")[0]
        killed = await self._before(function, event, request_id)
        if killed is not None:
            return killed
        invocation = await self._invoker.invoke(
            target, event, request_id=request_id, client_context=client_context,
            trace_headers=trace_headers, **tenancy(tenant_id),
        )  # fmt: skip
        if self._faults.idle:
            return invocation
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
        tenant_id: str = "",
    ) -> Invocation:
        """Implement ``Streamer``; only the faults before the function can happen."""
        killed = await self._before(function.partition(":")[0], event, request_id)
        if killed is not None or not isinstance(self._invoker, Streamer):
            return killed or await self._invoker.invoke(
                function, event, request_id=request_id, client_context=client_context,
                trace_headers=trace_headers, **tenancy(tenant_id),
            )  # fmt: skip
        return await self._invoker.invoke_streaming(
            function, event, stream, request_id=request_id, client_context=client_context,
            trace_headers=trace_headers, **tenancy(tenant_id),
        )  # fmt: skip

    async def _before(
        self, function: str, event: bytes, request_id: str | None
    ) -> Invocation | None:
        if self._faults.idle:
            return None
        for fault in self._faults.at("invoke", function, requestId=request_id):
            match fault.name:
                case "invocation.throttled":
                    raise ThrottledError
                case "invocation.slow":
                    await self._clock.sleep(float(fault.value("after_s")))
                case _:  # environment.killed-at-start
                    # As an environment records it; none of the pool's gets the invocation.
                    request_id = request_id or new_request_id()
                    killed = _killed(request_id)
                    record = InvocationRecord(self._faults.journal, function, request_id)
                    record.started(cold=False, payload=event)
                    record.responded(0.0, killed.error, killed.payload)
                    record.ended(report.Report(0.0, 0, 0, None), report.KILLED)
                    return killed
        return None


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
    """``Invocations`` around another one; ``later(seconds, call)`` is the loop's."""

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
