"""Delivers a firing to its target: a function, a queue or a topic.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws.events.notifications import MatchedRule, target_input
from twolane_local.aws.invocation import TenancyError, target_of
from twolane_local.aws.sqs.errors import SqsError
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.errors import LocalError
from twolane_local.model import ACCOUNT, REGION
from twolane_local.model.message import AttributeValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.scheduler.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Firing:
    """One due time of one schedule; ``attempt`` counts deliveries from 1."""

    schedule: Schedule
    at: float
    execution_id: str
    attempt: int = 1


def payload(firing: Firing) -> str:
    """The text that the target gets: its input or the default event."""
    target = firing.schedule.target
    if firing.schedule.source == "rule":
        if target.input is not None:
            return target.input
        facts = MatchedRule(firing.schedule.name, firing.schedule.arn, iso(firing.at))
        return target_input(target.raw, rule_event(firing), facts)
    if target.input is None:
        return json.dumps(scheduler_event(firing))
    return replace_context_attributes(target.input, firing)


def scheduler_event(firing: Firing) -> dict[str, Any]:
    """Scheduler's event for a target without input. Its ``detail`` is the text ``{}``.

    The user guide has no sample; the shape is that of aws/aws-lambda-dotnet#1864.
    """
    return {**_event("aws.scheduler", firing), "detail": "{}"}


def rule_event(firing: Firing) -> dict[str, Any]:
    """A scheduled rule's event.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
    """
    return {**_event("aws.events", firing), "detail": {}}


def replace_context_attributes(text: str, firing: Firing) -> str:
    """An input with the context attributes of the schedule filled in.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    """
    attributes = {
        "schedule-arn": firing.schedule.arn,
        "scheduled-time": iso(firing.at),
        "execution-id": firing.execution_id,
        "attempt-number": str(firing.attempt),
    }
    for name, value in attributes.items():
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return text


def dead_letter(
    firing: Firing, *, code: str, message: str, condition: str | None
) -> dict[str, str]:
    """The attributes of a dead-letter message, which say why its target was not reached.

    ``condition`` is the retry limit that was reached, ``None`` if a retry would not help.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    why = {
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        "RETRY_ATTEMPTS": str(firing.attempt - 1),
        "TARGET_ARN": firing.schedule.target.arn,
    }
    if condition is not None:
        why["EXHAUSTED_RETRY_CONDITION"] = condition
    if firing.schedule.source == "rule":
        return {**why, "RULE_ARN": firing.schedule.arn}
    return {
        **why,
        "EXECUTION_ID": firing.execution_id,
        "IS_PAYLOAD_TRUNCATED": "false",
        "SCHEDULED_TIME": iso(firing.at),
        "SCHEDULE_ARN": firing.schedule.arn,
    }


def iso(instant: float) -> str:
    """Format whole seconds in UTC as AWS does: ``2026-01-01T00:00:00Z``."""
    return datetime.fromtimestamp(int(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(source: str, firing: Firing) -> dict[str, Any]:
    return {
        "version": "0",
        "id": firing.execution_id,
        "detail-type": "Scheduled Event",
        "source": source,
        "account": ACCOUNT,
        "time": iso(firing.at),
        "region": REGION,
        "resources": [firing.schedule.arn],
    }


_UNIVERSAL = "arn:aws:scheduler:::aws-sdk:"
_OPERATIONS = ("sqs:sendMessage", "lambda:invoke", "sns:publish")


class Invocations(Protocol):
    """Asynchronous invocations of functions, and messages to topics."""

    def submit(self, function: str, payload: bytes) -> str:
        """Accept an event; raises ``KeyError`` for an unknown function."""

    async def publish(self, topic_arn: str, message: str) -> None:
        """Send a message to a topic; raises ``LocalError`` if the topic refuses it."""


class DeliveryError(LocalError):
    """A target refused an event; ``code`` is the target's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_supported(arn: str) -> bool:
    """True if the emulator delivers events to this target of a schedule."""
    if arn.startswith(_UNIVERSAL):
        return arn.removeprefix(_UNIVERSAL) in _OPERATIONS
    return arn.split(":")[2:3] in (["lambda"], ["sqs"], ["sns"])


async def deliver(firing: Firing, queues: QueueService, invocations: Invocations) -> None:
    """Send one event to its target; raises ``DeliveryError`` if the target refuses it."""
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
                "UnsupportedTarget", f"{arn} is not a function, queue or topic; the emulator has "
                "no other targets"
            )  # fmt: skip
    except DeliveryError:
        raise
    except SqsError as error:
        raise DeliveryError(error.query_code, error.message) from error
    except KeyError as error:
        raise DeliveryError("ResourceNotFoundException", f"Function not found: {arn}") from error
    except TenancyError as error:
        raise DeliveryError("InvalidParameterValueException", str(error)) from error
    except LocalError as error:
        raise DeliveryError("NotFound", str(error)) from error


def send_to_dead_letter_queue(
    firing: Firing, queues: QueueService, error: DeliveryError, condition: str | None
) -> bool:
    """Put the event on the dead-letter queue of its schedule; returns False if it has none."""
    arn = firing.schedule.target.dead_letter_arn
    if arn is None:
        return False
    why = dead_letter(firing, code=error.code, message=str(error), condition=condition)
    attributes = {name: AttributeValue("String", value) for name, value in why.items()}
    queues.send(arn.rpartition(":")[2], NewMessage(payload(firing), attributes=attributes))
    return True


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
