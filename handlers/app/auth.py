"""Who may call: whoever knows the API key. Without one in the settings this is not asked.

The settings hold the key's SHA-256, never the key. A fast hash is enough for a key that is random
and long; it would not be for a password.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import HTTPException, Security
from fastapi.security import APIKeyHeader

from app.settings import get_settings

_header = APIKeyHeader(name="X-API-Key", auto_error=False)


def authorized(key: Annotated[str | None, Security(_header)]) -> None:
    """A dependency: 401 unless the request carries the key that the settings expect."""
    expected = get_settings().api_key_sha256
    given = hashlib.sha256((key or "").encode()).hexdigest()
    if not hmac.compare_digest(given, expected):
        raise HTTPException(
            401, "send the API key in the X-API-Key header", headers={"WWW-Authenticate": "ApiKey"}
        )
