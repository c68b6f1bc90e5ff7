"""Which messages of a topic a subscription gets.

https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.mapping.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The other scope, and the default, is MessageAttributes.
BODY = "MessageBody"


def compile_policy(
    policy: Mapping[str, Any], scope: str | None
) -> Callable[[str, Mapping[str, Any]], bool]:
    """Whether a message with its attributes is wanted; raises ``PatternError``."""
    matches = compile_pattern(dict(policy))
    if scope != BODY:
        return lambda _, attributes: matches(
            {name: _value(attribute) for name, attribute in attributes.items()}
        )

    def in_body(message: str, _: Mapping[str, Any]) -> bool:
        try:
            body = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return isinstance(body, dict) and matches(body)

    return in_body


def _value(attribute: Mapping[str, Any]) -> Any:
    """An attribute as a policy sees it; what its type does not fit is a text."""
    kind, text = str(attribute["Type"]), attribute["Value"]
    if kind == "String.Array" or kind.startswith("Number"):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return text
