"""The event that an SQS event source mapping sends to its function: a pure function.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twolane_local.queues.message import AttributeValue, Received


def record_of(received: Received, queue_arn: str) -> dict[str, Any]:
    """One message as a record; its body and its attributes' values exactly as they were sent."""
    message = received.message
    record: dict[str, Any] = {
        "messageId": message.id,
        "receiptHandle": received.receipt_handle,
        "body": message.body,
        "attributes": received.system_attributes(),
        "messageAttributes": {
            name: _attribute(value) for name, value in message.attributes.items()
        },
        "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if message.md5_of_attributes is not None:
        record["md5OfMessageAttributes"] = message.md5_of_attributes
    return record


def _attribute(value: AttributeValue) -> dict[str, Any]:
    shown: dict[str, Any] = (
        {"binaryValue": base64.b64encode(value.binary or b"").decode()}
        if value.string is None
        else {"stringValue": value.string}
    )
    return {**shown, "stringListValues": [], "binaryListValues": [], "dataType": value.data_type}
