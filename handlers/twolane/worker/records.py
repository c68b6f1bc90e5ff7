"""SQS records as Lambda hands them over, as plain facts.

The event's shape: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Record:
    """One message of an event."""

    message_id: str
    receipt_handle: str
    body: str
    queue_arn: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def receive_count(self) -> int:
        """How often the message was received, this time included; 1 where SQS does not say."""
        return int(self.attributes.get("ApproximateReceiveCount", "1"))

    @property
    def sent_s(self) -> float:
        """When the message was sent, in epoch seconds; for ever where SQS does not say."""
        return float(self.attributes.get("SentTimestamp", "inf")) / 1000

    @property
    def first_received_s(self) -> float:
        """When it was received for the first time, in epoch seconds; as ``sent_s``."""
        return float(self.attributes.get("ApproximateFirstReceiveTimestamp", "inf")) / 1000

    @property
    def group_id(self) -> str | None:
        return self.attributes.get("MessageGroupId")

    @property
    def is_fifo(self) -> bool:
        return self.queue_arn.endswith(".fifo")

    @property
    def queue_name(self) -> str:
        return self.queue_arn.rpartition(":")[2]


def parse_event(event: Mapping[str, Any]) -> tuple[Record, ...]:
    """The event's records in order. Raises ``ConfigurationError`` for another source's event."""
    records = event.get("Records")
    if not isinstance(records, list) or any(
        record.get("eventSource") != "aws:sqs" for record in records
    ):
        raise ConfigurationError(
            "WorkerHandler was invoked with an event that is not from SQS; give the function an "
            "event source mapping from its task queue, and test it with a file of events/"
        )
    return tuple(
        Record(
            message_id=record["messageId"],
            receipt_handle=record["receiptHandle"],
            body=record["body"],
            queue_arn=record["eventSourceARN"],
            attributes=record.get("attributes", {}),
            message_attributes=record.get("messageAttributes", {}),
        )
        for record in records
    )
