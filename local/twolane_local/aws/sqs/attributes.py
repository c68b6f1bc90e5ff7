"""The attributes of a queue: their names, bounds and defaults.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.errors import (
    InvalidAttributeNameError,
    InvalidAttributeValueError,
    InvalidParameterValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAXIMUM_MESSAGE_SIZE = 1_048_576

#: Name: lowest value, highest value, default.
_INTEGERS = {
    "DelaySeconds": (0, 900, 0),
    "MaximumMessageSize": (1_024, MAXIMUM_MESSAGE_SIZE, MAXIMUM_MESSAGE_SIZE),
    "MessageRetentionPeriod": (60, 1_209_600, 345_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20, 0),
    "VisibilityTimeout": (0, 43_200, 30),
    "KmsDataKeyReusePeriodSeconds": (60, 86_400, 300),
}
_BOOLEANS = {"FifoQueue", "ContentBasedDeduplication", "SqsManagedSseEnabled"}
_CHOICES = {
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}
_FIFO_ONLY = {"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}
_PERMISSIONS = ("allowAll", "denyAll", "byQueue")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_ARN = re.compile(r"arn:[^:]+:sqs:[^:]+:\d{12}:[A-Za-z0-9_.-]+")

#: Attributes that GetQueueAttributes computes and nobody can set.
COMPUTED = (
    "QueueArn",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A queue's attributes as numbers and flags; times in seconds, sizes in bytes."""

    fifo: bool = False
    delay_s: int = 0
    maximum_message_size: int = MAXIMUM_MESSAGE_SIZE
    retention_s: int = 345_600
    wait_s: int = 0
    visibility_s: int = 30
    content_deduplication: bool = False
    deduplicate_by_group: bool = False
    dead_letter_arn: str | None = None
    max_receive_count: int = 0


def check_name(name: str, *, fifo: bool) -> None:
    """Raise ``InvalidParameterValueError`` for a name that SQS would refuse."""
    if not _NAME.fullmatch(name):
        raise InvalidParameterValueError(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
        )
    if fifo != name.endswith(".fifo"):
        raise InvalidParameterValueError(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
            "underscores, must end with .fifo suffix and be 1 to 80 in length."
        )


def check(
    attributes: Mapping[str, str], *, fifo: bool, current: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The attributes as SQS stores them; raises for unknown names and values out of bounds.

    ``current`` holds those of a queue that is to be changed.
    """
    found: dict[str, str] = {}
    for name, value in attributes.items():
        if name in _FIFO_ONLY and not fifo:
            raise InvalidAttributeNameError(
                f"You can specify the {name} only when FifoQueue is set to true."
                if name in _CHOICES
                else f"Unknown Attribute {name}."
            )
        found[name] = _normal(name, str(value))
    if found.get("KmsMasterKeyId") and found.get("SqsManagedSseEnabled") == "true":
        raise InvalidAttributeNameError(
            "You can use one type of server-side encryption (SSE) at one time. You can either "
            "enable KMS SSE or SQS SSE."
        )
    after = {**(current or {}), **found}
    if (
        after.get("FifoThroughputLimit") == "perMessageGroupId"
        and after.get("DeduplicationScope", "queue") != "messageGroup"
    ):
        raise InvalidAttributeValueError(
            "The perMessageGroupId value is allowed only when the value for DeduplicationScope is "
            "messageGroup"
        )
    return found


def _normal(name: str, value: str) -> str:
    if name in _INTEGERS:
        low, high, _ = _INTEGERS[name]
        if not re.fullmatch(r"\d{1,9}", value) or not low <= int(value) <= high:
            raise InvalidAttributeValueError(f"Invalid value for the parameter {name}.")
        return str(int(value))
    if name in _BOOLEANS:
        if value.lower() not in ("true", "false") or (name, value.lower()) == (
            "FifoQueue",
            "false",
        ):
            why = " Reason: Modifying queue type is not supported." if name == "FifoQueue" else ""
            raise InvalidAttributeValueError(f"Invalid value for the parameter {name}.{why}")
        return value.lower()
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise InvalidAttributeValueError(f"Invalid value for the parameter {name}.")
        return value
    if name in DOCUMENTS:
        return DOCUMENTS[name](name, value)
    raise InvalidAttributeNameError(f"Unknown Attribute {name}.")


def _document(name: str, value: str) -> dict[str, Any]:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _invalid(name, value, f"{name} is not a valid JSON map.")
    return parsed


def _invalid(name: str, value: str, reason: str) -> InvalidParameterValueError:
    return InvalidParameterValueError(
        f"Value {value} for parameter {name} is invalid. Reason: {reason}"
    )


def _redrive_policy(name: str, value: str) -> str:
    if not value:
        return ""
    policy = _document(name, value)
    for part in ("deadLetterTargetArn", "maxReceiveCount"):
        # The page names 10 as the default of maxReceiveCount; the service refuses its absence.
        if part not in policy:
            raise _invalid(
                name, value, f"Redrive policy does not contain mandatory attribute: {part}."
            )
    target = policy["deadLetterTargetArn"]
    if not isinstance(target, str) or not _ARN.fullmatch(target):
        raise _invalid(name, value, "Redrive policy does not contain a valid deadLetterTargetArn.")
    count = str(policy["maxReceiveCount"])
    if not re.fullmatch(r"\d{1,4}", count) or not 1 <= int(count) <= 1_000:
        raise _invalid(
            name, value, "Invalid value for maxReceiveCount: it must be between 1 and 1000."
        )
    if set(policy) - {"deadLetterTargetArn", "maxReceiveCount"}:
        raise _invalid(name, value, "Only following attributes are supported: "
                       "[deadLetterTargetArn, maxReceiveCount].")  # fmt: skip
    return json.dumps({**policy, "maxReceiveCount": int(count)}, separators=(",", ":"))


def _redrive_allow_policy(name: str, value: str) -> str:
    if not value:
        return ""
    policy = _document(name, value)
    permission, sources = policy.get("redrivePermission"), policy.get("sourceQueueArns")
    if permission not in _PERMISSIONS:
        raise _invalid(name, value, f"redrivePermission must be one of {list(_PERMISSIONS)}.")
    by_queue = permission == "byQueue"
    if by_queue != isinstance(sources, list) or (
        isinstance(sources, list) and not 1 <= len(sources) <= 10
    ):
        raise _invalid(name, value, "sourceQueueArns must hold 1 to 10 ARNs with byQueue, and may "
                       "not be given otherwise.")  # fmt: skip
    return json.dumps(policy, separators=(",", ":"))


def _policy(name: str, value: str) -> str:
    if value and not isinstance(_document(name, value).get("Statement", []), (list, dict)):
        raise _invalid(name, value, "Statement must be a list.")
    return value


#: Attributes that are absent until they are set, and again when they are set to an empty string.
DOCUMENTS: dict[str, Callable[[str, str], str]] = {
    "RedrivePolicy": _redrive_policy,
    "RedriveAllowPolicy": _redrive_allow_policy,
    "Policy": _policy,
    "KmsMasterKeyId": lambda _, value: value,
}


def defaults(*, fifo: bool) -> dict[str, str]:
    """The attributes of a queue that was created without any."""
    found = {
        name: str(default)
        for name, (_, _, default) in _INTEGERS.items()
        if name != "KmsDataKeyReusePeriodSeconds"
    }
    found["SqsManagedSseEnabled"] = "true"
    if fifo:
        found |= {
            "FifoQueue": "true",
            "ContentBasedDeduplication": "false",
            "DeduplicationScope": "queue",
            "FifoThroughputLimit": "perQueue",
        }
    return found


def merged(current: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The attributes after a change; an empty document removes the attribute.

    A queue is encrypted by one kind of key at a time, that of SQS or one of KMS, and has a reuse
    period with one of KMS only:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-server-side-encryption.html
    """
    found = {**current, **changes}
    if changes.get("KmsMasterKeyId"):
        found["SqsManagedSseEnabled"] = "false"
    elif changes.get("SqsManagedSseEnabled") == "true":
        found["KmsMasterKeyId"] = ""
    if not found.get("KmsMasterKeyId"):
        found.pop("KmsDataKeyReusePeriodSeconds", None)
    elif "KmsDataKeyReusePeriodSeconds" not in found:
        found["KmsDataKeyReusePeriodSeconds"] = str(_INTEGERS["KmsDataKeyReusePeriodSeconds"][2])
    return {name: value for name, value in found.items() if value or name not in DOCUMENTS}


def settings_of(attributes: Mapping[str, str]) -> Settings:
    """The settings of checked attributes."""
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    return Settings(
        fifo=attributes.get("FifoQueue") == "true",
        delay_s=int(attributes["DelaySeconds"]),
        maximum_message_size=int(attributes["MaximumMessageSize"]),
        retention_s=int(attributes["MessageRetentionPeriod"]),
        wait_s=int(attributes["ReceiveMessageWaitTimeSeconds"]),
        visibility_s=int(attributes["VisibilityTimeout"]),
        content_deduplication=attributes.get("ContentBasedDeduplication") == "true",
        deduplicate_by_group=attributes.get("DeduplicationScope") == "messageGroup",
        dead_letter_arn=redrive.get("deadLetterTargetArn"),
        max_receive_count=redrive.get("maxReceiveCount", 0),
    )


def permits(allow_policy: str | None, source_arn: str) -> bool:
    """True if ``source_arn`` may use a dead-letter queue with this RedriveAllowPolicy."""
    if not allow_policy:
        return True
    policy = json.loads(allow_policy)
    permission = policy["redrivePermission"]
    return permission == "allowAll" or (
        permission == "byQueue" and source_arn in policy["sourceQueueArns"]
    )
