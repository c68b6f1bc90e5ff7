"""SQS records as Lambda hands them over, as plain facts.

The event's shape: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS = ("messageId", "receiptHandle", "body", "eventSourceARN")
_COLONS = 5
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Record:
    """One message of an event.

    ``problem`` says what keeps it from being a message at all. Every attribute may be absent, and
    one that is not of its kind counts as absent.
    """

    message_id: str
    receipt_handle: str
    body: str
    queue_arn: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    message_attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problem: str | None = None

    @property
    def receive_count(self) -> int:
        """How often the message was received, this time included; 1 where SQS does not say."""
        count = _number(self.attributes.get("ApproximateReceiveCount"))
        return int(count) if 1 <= count < _FOREVER else 1

    @property
    def sent_s(self) -> float:
        """When the message was sent, in epoch seconds; for ever where SQS does not say."""
        return _number(self.attributes.get("SentTimestamp")) / 1000

    @property
    def first_received_s(self) -> float:
        """When it was received for the first time, in epoch seconds; as ``sent_s``."""
        return _number(self.attributes.get("ApproximateFirstReceiveTimestamp")) / 1000

    @property
    def group_id(self) -> str | None:
        group = self.attributes.get("MessageGroupId")
        return group if isinstance(group, str) else None

    @property
    def is_fifo(self) -> bool:
        return self.queue_arn.endswith(".fifo")

    @property
    def queue_name(self) -> str:
        return self.queue_arn.rpartition(":")[2]


def parse_event(event: Mapping[str, Any]) -> tuple[Record, ...]:
    """The event's records in order. Raises ``ConfigurationError`` for another source's event."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or (records and not any(map(_is_from_sqs, records))):
        raise ConfigurationError(
            "WorkerHandler was invoked with an event that is not from SQS; give the function an "
            "event source mapping from its task queue, and test it with a file of events/"
        )
    return tuple(map(_parse, records))


def _is_from_sqs(record: Any) -> bool:
    return isinstance(record, dict) and record.get("eventSource") == "aws:sqs"


def _parse(record: Any) -> Record:
    if not isinstance(record, dict):
        return Record("", "", "", "", problem="the record is no object")
    wrong = [name for name in _TEXTS if not _is_text(record.get(name))]
    arn = record.get("eventSourceARN")
    if isinstance(arn, str) and arn.count(":") != _COLONS:
        wrong.append("eventSourceARN")
    message_id, receipt, body, arn = ("" if name in wrong else record[name] for name in _TEXTS)
    attributes, own = record.get("attributes"), record.get("messageAttributes")
    problem = None
    if wrong:
        problem = f"the record has no {', '.join(dict.fromkeys(wrong))} as SQS gives it"
    elif not _is_from_sqs(record):
        problem = "the record is not from SQS"
    return Record(
        message_id,
        receipt,
        body,
        arn,
        attributes if isinstance(attributes, dict) else {},
        {name: one for name, one in own.items() if isinstance(one, dict)}
        if isinstance(own, dict)
        else {},
        problem,
    )


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _number(text: Any) -> float:
    """A number as SQS writes it, in digits; for ever for anything else."""
    digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 20
    return float(text) if digits else _FOREVER
