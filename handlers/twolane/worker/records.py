"""SQS records as Lambda hands them over, as plain facts.

The event's shape: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
"""

from __future__ import annotations

from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXTS = ("messageId", "receiptHandle", "body", "eventSourceARN")
_fields = itemgetter(*_TEXTS, "eventSource", "attributes", "messageAttributes")
_NONE: Mapping[str, Any] = MappingProxyType({})
_COLONS = 5
_FOREVER = float("inf")


class Record(NamedTuple):
    """One message of an event.

    ``problem`` says why it is not a message at all. Every attribute may be absent, and one of the
    wrong type counts as absent.
    """

    message_id: str
    receipt_handle: str
    body: str
    queue_arn: str
    attributes: Mapping[str, str] = _NONE
    message_attributes: Mapping[str, Mapping[str, Any]] = _NONE
    problem: str | None = None

    @property
    def receive_count(self) -> int:
        """How often the message was received, this time included; 1 where SQS does not say."""
        said = self.attributes.get("ApproximateReceiveCount")
        if said == "1":
            return 1
        count = _number(said)
        return int(count) if 1 <= count < _FOREVER else 1

    @property
    def sent_s(self) -> float:
        """When the message was sent, in epoch seconds; infinite if SQS does not say."""
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
    try:
        message_id, receipt_handle, body, queue_arn, source, attributes, own = _fields(record)
        as_sqs_gives_it = (
            source == "aws:sqs"
            and type(body) is str
            and (body.isascii() or _is_text(body))
            and message_id.isascii()
            and receipt_handle.isascii()
            and queue_arn.isascii()
            and queue_arn.count(":") == _COLONS
            and type(attributes) is dict
            and not own
        )
    except (AttributeError, KeyError, TypeError):
        as_sqs_gives_it = False
    if as_sqs_gives_it:
        return Record(message_id, receipt_handle, body, queue_arn, attributes)
    return _parse_with_care(record)


def _parse_with_care(record: Any) -> Record:
    if not isinstance(record, dict):
        return Record("", "", "", "", problem="the record is not an object")
    attributes, own = record.get("attributes"), record.get("messageAttributes")
    problem = None if record.get("eventSource") == "aws:sqs" else "the record is not from SQS"
    texts: list[Any] = [record.get(name) for name in _TEXTS]
    if not all(map(_is_text, texts)) or texts[-1].count(":") != _COLONS:
        problem, texts = _lacking(texts)
    message_id, receipt_handle, body, queue_arn = texts
    return Record(
        message_id,
        receipt_handle,
        body,
        queue_arn,
        attributes if isinstance(attributes, dict) else {},
        _of_dicts(own) if own and isinstance(own, dict) else {},
        problem,
    )


def _lacking(texts: list[Any]) -> tuple[str, list[str]]:
    """The problem of a record with texts missing, and its texts, empty if they are missing."""
    lacking = [not _is_text(text) for text in texts]
    lacking[-1] = lacking[-1] or texts[-1].count(":") != _COLONS
    names = [name for name, missing in zip(_TEXTS, lacking, strict=True) if missing]
    kept = ["" if missing else text for text, missing in zip(texts, lacking, strict=True)]
    return f"the record has no {', '.join(names)} as SQS gives it", kept


def _of_dicts(values: dict[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, dict)}


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(text: Any) -> float:
    """A number as SQS writes it, in digits; infinite for anything else."""
    digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 20
    return float(text) if digits else _FOREVER
