"""What every reader of an API's OpenAPI document needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
ANY = "x-amazon-apigateway-any-method"
_FUNCTION = re.compile(r"function:([^/:]+)")


def function_name(value: Any) -> str | None:
    """The function in an ARN, an integration's URI, or a bare name."""
    text = str(value)
    match = _FUNCTION.search(text)
    if match:
        return match.group(1)
    return None if text.startswith("arn:") else text


def operations(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Path, method and operation of each."""
    for path, item in (body.get("paths") or {}).items():
        for method, operation in (item or {}).items():
            if method == ANY:
                yield path, "ANY", operation
            elif method in _METHODS:
                yield path, method.upper(), operation
