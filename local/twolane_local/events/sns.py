"""SNS messages to functions.

https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def event(
    *,
    topic_arn: str,
    subscription_arn: str,
    message_id: str,
    message: str,
    subject: str | None,
    time: str,
    attributes: Mapping[str, Mapping[str, Any]],
    unsubscribe_url: str,
) -> dict[str, Any]:
    """One record; ``attributes`` by name, each with its ``Type`` and ``Value``, bytes or text.

    SNS signs messages; the emulator does not: the signature fields are placeholders.
    """
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": subscription_arn,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": message_id,
                    "TopicArn": topic_arn,
                    "Subject": subject,
                    "Message": message,
                    "Timestamp": time,
                    "SignatureVersion": "1",
                    "Signature": "EXAMPLE",
                    "SigningCertUrl": "EXAMPLE",
                    "UnsubscribeUrl": unsubscribe_url,
                    "MessageAttributes": {
                        name: {"Type": value["Type"], "Value": _text(value["Value"])}
                        for name, value in attributes.items()
                    },
                },
            }
        ]
    }


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
