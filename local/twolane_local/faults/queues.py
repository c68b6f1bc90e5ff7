"""Faults of SQS: a ``QueueService`` whose calls fail, and changes of messages' bodies."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.errors import ServiceUnavailableError, SqsError
from twolane_local.aws.sqs.service import QueueService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.sqs.service import NewMessage
    from twolane_local.faults.injection import Faults
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
    """Return a body that is not JSON."""
    return "\N{SKULL AND CROSSBONES} this is no task"


def truncated(body: str) -> str:
    """Return the first half."""
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


class RequestTimeoutError(SqsError, code="RequestTimeout", query_status=503):
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
        return () if self.faults is None else self.faults.at(point, name)
