"""Where a firing goes: a function, a queue or a topic, as a templated or a universal target.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws.events.eventbridge import Rule, target_input
from twolane_local.aws.invocation import target_of
from twolane_local.aws.scheduler.schedule import ACCOUNT, REGION, Schedule
from twolane_local.aws.sqs.errors import SqsError
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.errors import LocalError
from twolane_local.model.message import AttributeValue

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Firing:
    """One due time of one schedule, and which attempt this is (from 1)."""

    schedule: Schedule
    at: float
    execution_id: str
    attempt: int = 1


def payload(firing: Firing) -> str:
    """The text that the target gets: its input, or else the default event."""
    target = firing.schedule.target
    if firing.schedule.source == "rule":
        if target.input is not None:
            return target.input
        facts = Rule(firing.schedule.name, firing.schedule.arn, iso(firing.at))
        return target_input(target.raw, rule_event(firing), facts)
    if target.input is None:
        return json.dumps(scheduler_event(firing))
    return with_context(target.input, firing)


def scheduler_event(firing: Firing) -> dict[str, Any]:
    """Scheduler's event where no input is given. Its ``detail`` is the text ``{}``, no object.

    The user guide has no sample; the shape is that of aws/aws-lambda-dotnet#1864.
    """
    return {**_event("aws.scheduler", firing), "detail": "{}"}


def rule_event(firing: Firing) -> dict[str, Any]:
    """A scheduled rule's event.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
    """
    return {**_event("aws.events", firing), "detail": {}}


def with_context(text: str, firing: Firing) -> str:
    """Put the schedule's context attributes into an input.

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
    """The attributes of the message that says why a target could not be reached.

    ``condition`` is the retry limit that was met, ``None`` where no retry would have helped.
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
    """Whole seconds in UTC, as AWS writes them: ``2026-01-01T00:00:00Z``."""
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
    """Lambda's asynchronous invocations, as ``twolane_local.aws.lambda_.asynchronous`` has them."""

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
