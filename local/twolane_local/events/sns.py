"""SNS messages to functions and queues.

https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told of a message beside its content. ``time`` is to the millisecond, in UTC."""

    topic_arn: str
    subscription_arn: str
    message_id: str
    subject: str | None
    unsubscribe_url: str
    time: str


def event(facts: Facts, message: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a function gets: one record.

    SNS signs messages; the emulator does not: the signature fields are placeholders.
    """
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": facts.subscription_arn,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": facts.message_id,
                    "TopicArn": facts.topic_arn,
                    "Subject": facts.subject,
                    "Message": message,
                    "Timestamp": facts.time,
                    "SignatureVersion": "1",
                    "Signature": "EXAMPLE",
                    "SigningCertUrl": "EXAMPLE",
                    "UnsubscribeUrl": facts.unsubscribe_url,
                    "MessageAttributes": _spelled(attributes),
                },
            }
        ]
    }


def notification(facts: Facts, message: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a queue gets where delivery is not raw, with placeholders as in ``event``."""
    found: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": facts.message_id,
        "TopicArn": facts.topic_arn,
        "Subject": facts.subject,
        "Message": message,
        "Timestamp": facts.time,
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "EXAMPLE",
        "UnsubscribeURL": facts.unsubscribe_url,
        "MessageAttributes": _spelled(attributes),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _spelled(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """By name, each with its ``Type`` and ``Value``, bytes or text."""
    return {
        name: {"Type": value["Type"], "Value": _text(value["Value"])}
        for name, value in attributes.items()
    }


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
