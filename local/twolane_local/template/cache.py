"""A cache of expanded templates: the translator's import alone costs half a second.

The key covers the whole input and the translator's version, so an old entry is never returned.
A cache that cannot be read or written is skipped without an error.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.installation import directory

if TYPE_CHECKING:
    from collections.abc import Callable


def cached(key: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return ``make()``, or its stored result for the same key. Both are JSON values."""
    try:
        text = json.dumps([version("aws-sam-translator"), key], sort_keys=True)
    except TypeError:
        return make()
    file = directory() / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    with suppress(OSError, ValueError):
        cached: dict[str, Any] = json.loads(file.read_bytes())
        return cached
    value = make()
    with suppress(OSError, TypeError):
        text = json.dumps(value)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Written to a temporary file and moved, so that a reader never sees half a file.
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:
            temporary.write(text)
        Path(temporary.name).replace(file)
    return value
