"""A mapping's filter criteria: which records its function gets.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html

A record that satisfies one of the patterns is sent, all others are deleted from the queue. A body
that is JSON is matched as such; a pattern for JSON drops plain text, and one for plain text drops
JSON. AWS documents patterns on ``body`` only; the other fields of a record are matched here in the
same way, which is unverified (`filter-beside-body`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.mapping.patterns import PatternError, compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The quota that AWS raises at most to, and how long a pattern may be.
MOST_FILTERS, LONGEST_PATTERN = 10, 4_096


def compile_filters(
    patterns: Sequence[Mapping[str, Any]],
) -> Callable[[Mapping[str, Any]], bool] | None:
    """Whether a record is wanted by one of the patterns; ``None`` where there are none."""
    if not patterns:
        return None
    if len(patterns) > MOST_FILTERS:
        raise PatternError(f"A mapping has at most {MOST_FILTERS} filters, not {len(patterns)}")
    compiled = [_Filter(pattern) for pattern in patterns]
    return lambda record: any(wants(record) for wants in compiled)


class _Filter:
    def __init__(self, pattern: Mapping[str, Any]) -> None:
        if len(json.dumps(pattern)) > LONGEST_PATTERN:
            raise PatternError(f"A filter pattern has at most {LONGEST_PATTERN} characters")
        self._matches = compile_pattern(dict(pattern))
        self._bodies = _forms_of_body(pattern)

    def __call__(self, record: Mapping[str, Any]) -> bool:
        if not self._bodies:
            return self._matches(record)
        parsed = _parse(record["body"])
        if (parsed is not None) not in self._bodies:
            return False
        return self._matches(record if parsed is None else {**record, "body": parsed})


def _forms_of_body(pattern: Mapping[str, Any]) -> set[bool]:
    """The forms of body that a pattern speaks of: JSON (true), plain text (false), or neither."""
    forms = {isinstance(pattern["body"], dict)} if "body" in pattern else set()
    for alternative in pattern.get("$or", ()):
        forms |= _forms_of_body(alternative)
    return forms


def _parse(body: str) -> Any:
    """The body as JSON, ``None`` for plain text. A lone number or string counts as plain text,
    which AWS leaves open.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, (dict, list)) else None
