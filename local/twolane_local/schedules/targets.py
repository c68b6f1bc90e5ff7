"""Where a firing goes: a function or a queue, as a templated or a universal target.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.errors import LocalError
from twolane_local.invoke import target_of
from twolane_local.queues.core import NewMessage, QueueService
from twolane_local.queues.errors import SqsError
from twolane_local.queues.message import AttributeValue
from twolane_local.schedules.events import Firing, dead_letter, payload

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNIVERSAL = "arn:aws:scheduler:::aws-sdk:"


class Invocations(Protocol):
    """Lambda's asynchronous invocations, as ``twolane_local.async_invoke`` has them."""

    def submit(self, function: str, payload: bytes) -> str:
        """Take an event, and see it through later; raises ``KeyError`` for an unknown function."""


class DeliveryError(LocalError):
    """A target refused an event; ``code`` is its own word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def deliver(firing: Firing, queues: QueueService, invocations: Invocations) -> None:
    """Hand one event to its target; raises ``DeliveryError`` where the target does not take it."""
    arn = firing.schedule.target.arn
    text = payload(firing)
    try:
        if arn.startswith(_UNIVERSAL):
            _universal(arn.removeprefix(_UNIVERSAL), json.loads(text), queues, invocations)
        elif ":lambda:" in arn:
            invocations.submit(target_of(arn), text.encode())
        elif ":sqs:" in arn:
            group = firing.schedule.target.message_group_id
            queues.send(arn.rpartition(":")[2], NewMessage(text, group_id=group))
        else:
            raise DeliveryError(
                "UnsupportedTarget", f"{arn} is no Lambda function and no SQS queue; "
                "the emulator has no other targets"
            )  # fmt: skip
    except SqsError as error:
        raise DeliveryError(error.query_code, error.message) from error
    except KeyError as error:
        raise DeliveryError("ResourceNotFoundException", f"Function not found: {arn}") from error


def bury(firing: Firing, queues: QueueService, error: DeliveryError, condition: str | None) -> bool:
    """Put what could not be delivered on the schedule's dead-letter queue, if it has one."""
    arn = firing.schedule.target.dead_letter_arn
    if arn is None:
        return False
    why = dead_letter(firing, code=error.code, message=str(error), condition=condition)
    attributes = {name: AttributeValue("String", value) for name, value in why.items()}
    queues.send(arn.rpartition(":")[2], NewMessage(payload(firing), attributes=attributes))
    return True


def function_name(arn: str) -> str:
    """The name in a function's ARN, without version or alias; a bare name is its own."""
    parts = arn.split(":")
    return parts[6] if len(parts) > 6 else arn


def _universal(
    operation: str, request: Mapping[str, Any], queues: QueueService, invocations: Invocations
) -> None:
    if operation == "sqs:sendMessage":
        attributes = {
            name: AttributeValue(str(value["DataType"]), value["StringValue"])
            for name, value in (request.get("MessageAttributes") or {}).items()
        }
        message = NewMessage(
            str(request["MessageBody"]),
            delay_s=request.get("DelaySeconds"),
            attributes=attributes,
            group_id=request.get("MessageGroupId"),
            deduplication_id=request.get("MessageDeduplicationId"),
        )
        queues.send(str(request["QueueUrl"]).rpartition("/")[2], message)
    elif operation == "lambda:invoke":
        name = target_of(str(request["FunctionName"]))
        if request.get("Qualifier"):
            name = f"{name}:{request['Qualifier']}"
        invocations.submit(name, str(request.get("Payload") or "{}").encode())
    else:
        raise DeliveryError(
            "UnsupportedTarget",
            f"the emulator has sqs:sendMessage and lambda:invoke, not {operation}",
        )
