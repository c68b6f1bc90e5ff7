"""Where a firing goes: a function, a queue or a topic, as a templated or a universal target.

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
_OPERATIONS = ("sqs:sendMessage", "lambda:invoke", "sns:publish")


class Invocations(Protocol):
    """Lambda's asynchronous invocations, as ``twolane_local.async_invoke`` has them."""

    def submit(self, function: str, payload: bytes) -> str:
        """Take an event, and see it through later; raises ``KeyError`` for an unknown function."""

    async def publish(self, topic_arn: str, message: str) -> None:
        """Send a message to a topic; raises ``LocalError`` where that does not take it."""


class DeliveryError(LocalError):
    """A target refused an event; ``code`` is its own word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def plays(arn: str) -> bool:
    """Whether a schedule's target is one that gets its events here."""
    if arn.startswith(_UNIVERSAL):
        return arn.removeprefix(_UNIVERSAL) in _OPERATIONS
    return arn.split(":")[2:3] in (["lambda"], ["sqs"], ["sns"])


async def deliver(firing: Firing, queues: QueueService, invocations: Invocations) -> None:
    """Hand one event to its target; raises ``DeliveryError`` where the target does not take it."""
    arn = firing.schedule.target.arn
    text = payload(firing)
    try:
        if arn.startswith(_UNIVERSAL):
            await _universal(arn.removeprefix(_UNIVERSAL), json.loads(text), queues, invocations)
        elif ":lambda:" in arn:
            invocations.submit(target_of(arn), text.encode())
        elif ":sqs:" in arn:
            group = firing.schedule.target.message_group_id
            queues.send(arn.rpartition(":")[2], NewMessage(text, group_id=group))
        elif ":sns:" in arn:
            await invocations.publish(arn, text)
        else:
            raise DeliveryError(
                "UnsupportedTarget", f"{arn} is no function, queue or topic; the emulator has no "
                "other targets"
            )  # fmt: skip
    except DeliveryError:
        raise
    except SqsError as error:
        raise DeliveryError(error.query_code, error.message) from error
    except KeyError as error:
        raise DeliveryError("ResourceNotFoundException", f"Function not found: {arn}") from error
    except LocalError as error:
        raise DeliveryError("NotFound", str(error)) from error


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


async def _universal(
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
    elif operation == "sns:publish":
        await invocations.publish(str(request["TopicArn"]), str(request["Message"]))
    else:
        raise DeliveryError(
            "UnsupportedTarget",
            f"the emulator has {', '.join(_OPERATIONS)}, not {operation}",
        )
