"""One message as SQS takes it: a kombu envelope in, the fields of SendMessage out.

The envelope is byte for byte what kombu's own SQS transport writes, so a stock ``celery worker``
reads it: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu.utils.json import dumps

from twolane.publish.delay import MAX_DELAY_S, delay_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane.claimcheck import ClaimCheck

#: What one message, and all of a batch together, may hold: body and attributes, in bytes.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BYTES = 1_048_576


class Entry(NamedTuple):
    """A message that is ready to go, and what is told of it."""

    task_id: str
    name: str
    size: int
    fields: Mapping[str, Any]


def build(
    message: dict[str, Any], *, base64_encoding: bool, trace_header: str | None, now: float
) -> Entry:
    """The fields of SendMessage but ``QueueUrl``; ``now`` is in seconds since the epoch.

    As kombu does it, ``message_attributes`` moves out of the envelope, ``MessageGroupId`` (fair
    queues) is copied, and an explicit delay is honoured and clamped; beyond kombu, the task's ETA
    becomes a delay. ``trace_header`` is X-Ray's, which SQS hands on to the consumer.
    """
    headers = message.get("headers") or {}
    properties = message["properties"]
    fields: dict[str, Any] = {}
    attributes = properties.pop("message_attributes", None)
    if attributes is not None:
        fields["MessageAttributes"] = attributes
    if "MessageGroupId" in properties:
        fields["MessageGroupId"] = properties["MessageGroupId"]
    delay = _explicit_delay(properties)
    if delay is None:
        delay = delay_seconds(headers.get("eta"), now=now) or None
    if delay is not None:
        # 0, if it was asked for: it overrides the queue's own delay.
        fields["DelaySeconds"] = delay
    if trace_header:
        fields["MessageSystemAttributes"] = {
            "AWSTraceHeader": {"DataType": "String", "StringValue": trace_header}
        }
    text = dumps(message)
    if base64_encoding:
        text = base64.b64encode(text.encode()).decode()
    fields["MessageBody"] = text
    size = len(text.encode()) + _attributes_size(attributes)
    task_id = headers.get("id") or properties.get("correlation_id") or ""
    return Entry(str(task_id), str(headers.get("task") or ""), size, fields)


def checked_in(entry: Entry, check: ClaimCheck) -> Entry:
    """The entry with its body put aside; all else of it stays."""
    body, attributes = check.check_in(
        entry.fields["MessageBody"], entry.fields.get("MessageAttributes")
    )
    fields = {**entry.fields, "MessageBody": body, "MessageAttributes": attributes}
    return entry._replace(size=len(body.encode()) + _attributes_size(attributes), fields=fields)


def _explicit_delay(properties: Mapping[str, Any]) -> int | None:
    for key in ("delay_seconds", "DelaySeconds"):
        if properties.get(key) is not None:
            try:
                delay = int(properties[key])
            except (TypeError, ValueError, OverflowError):
                return None
            return min(delay, MAX_DELAY_S) if delay >= 0 else None
    return None


def _attributes_size(attributes: Mapping[str, Any] | None) -> int:
    """Names, types and values count: they share the message's limit."""
    size = 0
    for name, value in (attributes or {}).items():
        size += len(str(name).encode()) + len(str(value.get("DataType", "")).encode())
        size += len(str(value.get("StringValue", "")).encode())
        size += len(value.get("BinaryValue", b""))
    return size
