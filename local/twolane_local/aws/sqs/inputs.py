"""Reads the parameters of a request and checks them against the limits of the SQS API.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.errors import (
    InvalidAddressError,
    InvalidMessageContentsError,
    InvalidParameterValueError,
    MissingParameterError,
)
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.model.message import AttributeValue, message_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.sqs.attributes import Settings

Params = dict[str, Any]

_NOT_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws\.|amazon\.))[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ATTRIBUTE_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_TOKEN = re.compile(r"[!-~]{1,128}")


def required(params: Params, name: str) -> str:
    """A parameter that must be a non-empty string."""
    value = params.get(name)
    if value is None or value == "":
        raise MissingParameterError(f"The request must contain the parameter {name}.")
    if not isinstance(value, str):
        raise InvalidParameterValueError(f"{name} must be a string.")
    return value


def queue_name(params: Params) -> str:
    """The queue that ``QueueUrl`` names; the host does not matter."""
    url = required(params, "QueueUrl")
    name = url.rstrip("/").rpartition("/")[2]
    if not name:
        raise InvalidAddressError(f"The address {url} is not valid for this endpoint.")
    return name


def integer(params: Params, name: str, low: int, high: int) -> int | None:
    """An optional number within its bounds."""
    value = params.get(name)
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidParameterValueError(f"{name} must be an integer.") from None
    if not low <= number <= high:
        raise InvalidParameterValueError(
            f"Value {number} for parameter {name} is invalid. Reason: Must be between {low} and "
            f"{high}, if provided."
        )
    return number


def names(params: Params, *keys: str) -> set[str]:
    """The union of the lists of names under these keys."""
    found: set[str] = set()
    for key in keys:
        value = params.get(key) or []
        if not isinstance(value, list):
            raise InvalidParameterValueError(f"{key} must be a list.")
        found.update(map(str, value))
    return found


def strings(params: Params, name: str) -> dict[str, str]:
    """A map of strings."""
    value = params.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidParameterValueError(f"{name} must be a map.")
    return {str(key): str(entry) for key, entry in value.items()}


def new_message(params: Params, settings: Settings, trace: str | None = None) -> NewMessage:
    """The message of a SendMessage, or of one entry of a SendMessageBatch.

    ``trace`` is the X-Ray header of the request; the message's own attribute takes precedence:
    https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html
    """
    body = params.get("MessageBody")
    if not isinstance(body, str) or not body:
        raise MissingParameterError("The request must contain the parameter MessageBody.")
    _check_text(body, "message body")
    attributes = message_attributes(params.get("MessageAttributes") or {})
    if message_size(body, attributes) > settings.maximum_message_size:
        raise InvalidParameterValueError(
            "One or more parameters are invalid. Reason: Message must be shorter than "
            f"{settings.maximum_message_size} bytes."
        )
    delay = integer(params, "DelaySeconds", 0, 900)
    group_id, deduplication_id = _fifo_ids(params, settings, delay)
    return NewMessage(
        body=body,
        delay_s=None if settings.fifo else delay,
        attributes=attributes,
        trace_header=trace_header(params) or trace,
        group_id=group_id,
        deduplication_id=deduplication_id,
    )


def _check_text(text: str, where: str) -> None:
    if (bad := _NOT_TEXT.search(text)) is not None:
        raise InvalidMessageContentsError(
            f"Invalid binary character '#x{ord(bad[0]):X}' was found in the {where}, the set of "
            "allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
            "#x10000 to #x10FFFF"
        )


def _fifo_ids(
    params: Params, settings: Settings, delay: int | None
) -> tuple[str | None, str | None]:
    """Group id and deduplication id, if the kind of queue allows them.

    A group id on a standard queue makes it a fair queue:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
    """
    group_id = token(params, "MessageGroupId")
    deduplication_id = token(params, "MessageDeduplicationId")
    if not settings.fifo:
        if deduplication_id is not None:
            raise _wrong_kind(deduplication_id, "MessageDeduplicationId")
        return group_id, None
    if delay:
        raise _wrong_kind(delay, "DelaySeconds")
    if group_id is None:
        raise MissingParameterError("The request must contain the parameter MessageGroupId.")
    if deduplication_id is None and not settings.content_deduplication:
        raise InvalidParameterValueError(
            "The queue should either have ContentBasedDeduplication enabled or "
            "MessageDeduplicationId provided explicitly"
        )
    return group_id, deduplication_id


def token(params: Params, name: str) -> str | None:
    """An optional id: 1 to 128 letters, digits and punctuation."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise InvalidParameterValueError(
            f"Value {value} for parameter {name} is invalid. Reason: {name} can only include "
            "alphanumeric and punctuation characters. 1 to 128 in length."
        )
    return value


def _wrong_kind(value: object, name: str) -> InvalidParameterValueError:
    return InvalidParameterValueError(
        f"Value {value} for parameter {name} is invalid. Reason: The request include parameter "
        "that is not valid for this queue type."
    )


def message_attributes(given: object) -> dict[str, AttributeValue]:
    """Message attributes: at most ten, with names, types and values that SQS accepts.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    if not isinstance(given, dict):
        raise InvalidParameterValueError("MessageAttributes must be a map.")
    if len(given) > 10:
        raise InvalidParameterValueError(
            f"Number of message attributes [{len(given)}] exceeds the allowed maximum [10]."
        )
    return {name: _attribute(name, value) for name, value in given.items()}


def _attribute(name: str, given: Any) -> AttributeValue:
    if not _ATTRIBUTE_NAME.fullmatch(name) or len(name) > 256:
        raise InvalidParameterValueError(
            f"The message attribute name '{name}' is invalid. Attribute name can contain A-Z, "
            "a-z, 0-9, underscore (_), hyphen (-), and period (.) characters, 1 to 256 of them, "
            "and must not start with AWS. or Amazon."
        )
    value = given if isinstance(given, dict) else {}
    kind = value.get("DataType")
    if not kind:
        raise InvalidParameterValueError(
            f"The message attribute '{name}' must contain a non-empty message attribute type."
        )
    if not isinstance(kind, str) or not _ATTRIBUTE_TYPE.fullmatch(kind) or len(kind) > 256:
        raise InvalidParameterValueError(
            f"The message attribute '{name}' has an invalid message attribute type, the set of "
            "supported type prefixes is Binary, Number, and String."
        )
    if kind.startswith("Binary"):
        return AttributeValue(kind, binary=_binary(name, kind, value.get("BinaryValue")))
    text = value.get("StringValue")
    if not isinstance(text, str) or not text:
        raise _empty_value(name, kind)
    _check_text(text, f"message attribute '{name}'")
    if kind.startswith("Number") and not _NUMBER.fullmatch(text):
        raise InvalidParameterValueError(
            f"Can't cast the value of message (user) attribute '{name}' to a number."
        )
    return AttributeValue(kind, string=text)


def _binary(name: str, kind: str, value: object) -> bytes:
    try:
        raw = base64.b64decode(str(value or ""), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParameterValueError(
            f"The message attribute '{name}' holds invalid base64."
        ) from None
    if not raw:
        raise _empty_value(name, kind)
    return raw


def _empty_value(name: str, kind: str) -> InvalidParameterValueError:
    return InvalidParameterValueError(
        f"The message attribute '{name}' must contain a non-empty value of type {kind}."
    )


def trace_header(params: Params) -> str | None:
    """The one message system attribute that a sender may set: AWSTraceHeader."""
    given = params.get("MessageSystemAttributes") or {}
    if not isinstance(given, dict) or set(given) - {"AWSTraceHeader"}:
        raise InvalidParameterValueError("MessageSystemAttributes may hold AWSTraceHeader only.")
    if "AWSTraceHeader" not in given:
        return None
    value = _attribute("AWSTraceHeader", given["AWSTraceHeader"])
    if value.data_type != "String":
        raise InvalidParameterValueError("AWSTraceHeader must be of type String.")
    return value.string


def wanted_attributes(
    attributes: Mapping[str, AttributeValue], wanted: set[str]
) -> dict[str, AttributeValue]:
    """The attributes that ``wanted`` selects: by name, ``All``, ``.*`` or ``prefix.*``."""
    if not wanted or not attributes:
        return {}
    if wanted & {"All", ".*"}:
        return dict(attributes)
    prefixes = tuple(name[:-2] for name in wanted if name.endswith(".*"))
    return {
        name: value
        for name, value in attributes.items()
        if name in wanted or (prefixes and name.startswith(prefixes))
    }
