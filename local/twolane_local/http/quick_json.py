"""JSON on the hot path: by orjson where that is installed and says the same, else by ``json``."""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson
except ImportError:  # no wheel for this platform
    orjson = None  # type: ignore[assignment, unused-ignore]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """As UTF-8. Raises ``TypeError`` or ``ValueError`` for what is no JSON."""
    if orjson is not None:
        try:
            return orjson.dumps(value)
        except TypeError:  # an integer of more than 64 bits, a lone surrogate
            pass
    return _encode(value).encode("utf-8", "surrogatepass")


def loads(data: bytes) -> Any:
    """Raises ``ValueError`` for what is no JSON; takes NaN, as ``json`` does.

    An integer of more than 64 bits may come as a float: not for values that are passed on.
    """
    if orjson is not None:
        try:
            return orjson.loads(data)
        except ValueError:
            pass
    return json.loads(data)


def utf8(text: str) -> bytes:
    """JSON's text as UTF-8, which has no lone surrogate: one is written as JSON's own escape."""
    return text.encode("utf-8", "backslashreplace")
