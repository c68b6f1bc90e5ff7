"""What a function's answer means for the messages of its batch: a pure function.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Outcome:
    """The messages to keep on the queue, by id, and why a whole batch failed if it did."""

    failed: frozenset[str]
    reason: str | None = None


def batch_item_failures(payload: bytes, message_ids: Collection[str]) -> Outcome:
    """Read a response of ``ReportBatchItemFailures``.

    A complete success is: an empty or null response, an empty or null ``batchItemFailures``. A
    complete failure is: a response that is no JSON object, an ``itemIdentifier`` that is empty,
    null, has a wrong key, or is of no message of the batch.
    """

    try:
        return Outcome(frozenset(_identifiers(payload, message_ids)))
    except _MalformedError as malformed:
        return Outcome(frozenset(message_ids), str(malformed))


class _MalformedError(Exception):
    """Why a response fails its whole batch."""


def _identifiers(payload: bytes, message_ids: Collection[str]) -> list[str]:
    try:
        response = json.loads(payload) if payload.strip() else None
    except (ValueError, RecursionError):
        raise _MalformedError("the response is not JSON") from None
    if response is None:
        return []
    if not isinstance(response, dict):
        # JSON, but nothing that could hold the key: AWS does not say what that counts as.
        raise _MalformedError("the response is not a JSON object")
    failures = response.get("batchItemFailures")
    if failures is None:
        return []
    if not isinstance(failures, list):
        raise _MalformedError("batchItemFailures is not a list")
    return [_identifier(failure, message_ids) for failure in failures]


def _identifier(failure: object, message_ids: Collection[str]) -> str:
    if not isinstance(failure, dict) or "itemIdentifier" not in failure:
        raise _MalformedError("a batch item failure has no itemIdentifier")
    identifier = failure["itemIdentifier"]
    if not isinstance(identifier, str) or not identifier:
        raise _MalformedError("an itemIdentifier is empty or not a string")
    if identifier not in message_ids:
        raise _MalformedError(f"itemIdentifier {identifier} is of no message of the batch")
    return identifier
