"""JSON as UTF-8, for texts that may hold lone surrogates."""

from __future__ import annotations

import json
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """As UTF-8. Raises ``TypeError`` or ``ValueError`` for a value that is not JSON."""
    return _encode(value).encode("utf-8", "surrogatepass")


def utf8(text: str) -> bytes:
    """JSON's text as UTF-8, which has no lone surrogate: one is written as JSON's own escape."""
    return text.encode("utf-8", "backslashreplace")
