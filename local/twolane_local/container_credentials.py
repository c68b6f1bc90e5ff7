"""The endpoint that gives a function its credentials where no variables do, as with SnapStart.

Keys that stood in the variables would be those of the snapshot, long expired.
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import hmac
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from twolane_local.guard import DUMMY_CREDENTIALS
from twolane_local.wire import AwsResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/2021-04-23/credentials"
_LASTS = timedelta(hours=6)


class ContainerCredentials:
    """Dummies for whoever has the token, which only functions have."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(24)

    def variables(self, endpoint_url: str) -> dict[str, str]:
        """What a function finds it by."""
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint_url}{PATH}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._token,
        }

    def answer(self, headers: Mapping[str, str]) -> AwsResponse:
        """The credentials, or a refusal."""
        given = headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._token.encode()):
            body = {"code": "AccessDenied", "message": "the token is not this emulator's"}
            return _json(403, body)
        key, secret, token = DUMMY_CREDENTIALS.values()
        until = (datetime.now(UTC) + _LASTS).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = {"AccessKeyId": key, "SecretAccessKey": secret, "Token": token}
        return _json(200, {**found, "Expiration": until})


def _json(status: int, body: Mapping[str, str]) -> AwsResponse:
    return AwsResponse(status, json.dumps(body).encode(), {"content-type": "application/json"})
