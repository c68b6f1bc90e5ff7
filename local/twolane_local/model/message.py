"""A message on a queue, and the digests that SQS returns.

Digests: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html#sqs-attributes-md5-message-digest-calculation
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The id of every local sender: the IAM user's id in SQS's documentation.
SENDER_ID = "AIDAIENQZJOLO23YVJ4VO"


@dataclass(frozen=True, slots=True)
class AttributeValue:
    """A message attribute. ``data_type`` is String, Number or Binary, with an optional label."""

    data_type: str
    string: str | None = None
    binary: bytes | None = None

    @property
    def size(self) -> int:
        """The bytes of type and value, which count towards the message's size."""
        value = self.binary if self.string is None else self.string.encode()
        return len(self.data_type.encode()) + len(value or b"")


@dataclass(frozen=True, slots=True)
class Message:
    """A sent message. ``sent_at`` in seconds since the epoch; ``sequence`` on FIFO queues only."""

    id: str
    body: str
    sent_at: float
    md5_of_body: str
    md5_of_attributes: str | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    trace_header: str | None = None
    group_id: str | None = None
    deduplication_id: str | None = None
    sequence: str | None = None
    dead_letter_source: str | None = None
    sender_id: str = SENDER_ID

    @property
    def size(self) -> int:
        return message_size(self.body, self.attributes)


@dataclass(frozen=True, slots=True)
class Received:
    """A message as returned by one receive."""

    message: Message
    receipt_handle: str
    receive_count: int
    first_received_at: float

    def system_attributes(self) -> dict[str, str]:
        """Return the message's system attributes by name, with times in epoch milliseconds:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
        """
        message = self.message
        found = {
            "ApproximateReceiveCount": str(self.receive_count),
            "AWSTraceHeader": message.trace_header,
            "SentTimestamp": str(round(message.sent_at * 1000)),
            "SequenceNumber": message.sequence,
            "MessageGroupId": message.group_id,
            "SenderId": message.sender_id,
            "MessageDeduplicationId": message.deduplication_id,
            "ApproximateFirstReceiveTimestamp": str(round(self.first_received_at * 1000)),
            "DeadLetterQueueSourceArn": message.dead_letter_source,
        }
        return {name: value for name, value in found.items() if value is not None}


def message_size(body: str, attributes: Mapping[str, AttributeValue]) -> int:
    """Return the bytes of the body and of each attribute's name, type and value, as SQS does:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
    """
    size = len(body.encode())
    for name, value in attributes.items():
        size += len(name.encode()) + value.size
    return size


def md5_of(data: bytes) -> str:
    """Return the hexadecimal MD5 digest by which an SDK checks the transmission."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, AttributeValue]) -> str | None:
    """Return the digest over all attributes in the order of their names, ``None`` without any."""
    if not attributes:
        return None
    parts: list[bytes] = []
    for name in sorted(attributes):
        value = attributes[name]
        binary = value.string is None
        raw = (value.binary or b"") if value.string is None else value.string.encode()
        for piece in (name.encode(), value.data_type.encode()):
            parts += (struct.pack("!I", len(piece)), piece)
        parts += (b"\x02" if binary else b"\x01", struct.pack("!I", len(raw)), raw)
    return md5_of(b"".join(parts))
