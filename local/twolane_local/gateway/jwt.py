"""JSON Web Tokens as an HTTP API's JWT authorizer checks them.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twolane_local.errors import RealAwsError
from twolane_local.guard import is_aws_host

if TYPE_CHECKING:
    from twolane_local.clock import Clock

#: How long an issuer's keys are kept; a token signed by an unknown key fetches them anew.
_KEYS_S = 7200.0
#: Only RSA: API Gateway supports no other.
_ALGORITHMS = ["RS256", "RS384", "RS512"]


class TokenError(Exception):
    """The token is not valid; the text is the error description of the response."""


class JwtChecker:
    """Checks tokens against their issuer's published keys."""

    def __init__(self, clock: Clock, *, allow_real_aws: bool = False) -> None:
        self._clock = clock
        self._allow_real_aws = allow_real_aws
        self._keys: dict[str, tuple[float, Any]] = {}

    async def check(self, token: str, issuer: str, audience: list[str]) -> dict[str, Any]:
        """The token's claims; raises ``TokenError``, ``RealAwsError`` for an issuer on AWS."""
        # A tenth of a second, for those alone who have JWT authorizers.
        from joserfc import jwt
        from joserfc.errors import JoseError

        for fresh in (False, True):
            keys = await self._issuer_keys(issuer, fresh=fresh)
            try:
                decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
            except (JoseError, ValueError) as error:
                if fresh:
                    raise TokenError("the token is not valid") from error
                continue
            claims = dict(decoded.claims)
            self._check_claims(claims, issuer, audience)
            return claims
        raise TokenError("the token is not valid")

    def _check_claims(self, claims: dict[str, Any], issuer: str, audience: list[str]) -> None:
        now = self._clock.time()
        if claims.get("iss") != issuer:
            raise TokenError("invalid issuer")
        # `client_id` counts only where there is no `aud`.
        given = claims.get("aud", claims.get("client_id"))
        if not set(given if isinstance(given, list) else [given]) & set(audience):
            raise TokenError("invalid audience")
        try:
            if "exp" not in claims or float(claims["exp"]) <= now:
                raise TokenError("the token has expired")
            if float(claims.get("nbf", 0)) > now or float(claims.get("iat", 0)) > now:
                raise TokenError("the token is not valid yet")
        except (TypeError, ValueError) as error:
            raise TokenError("a time in the token is no number") from error

    async def _issuer_keys(self, issuer: str, *, fresh: bool) -> Any:
        kept = self._keys.get(issuer)
        if kept is not None and not fresh and kept[0] > self._clock.time():
            return kept[1]
        host = urlsplit(issuer).hostname or ""
        if is_aws_host(host) and not self._allow_real_aws:
            raise RealAwsError(
                f"the JWT authorizer's issuer {issuer} is real AWS; point it elsewhere by a "
                "parameter, or start with --allow-real-aws"
            )
        try:
            keys = await asyncio.to_thread(_fetch_keys, issuer)
        except (OSError, ValueError, KeyError) as error:
            raise TokenError(f"the issuer's keys cannot be read: {error}") from error
        self._keys[issuer] = (self._clock.time() + _KEYS_S, keys)
        return keys


def _fetch_keys(issuer: str) -> Any:
    from joserfc.jwk import KeySet

    configuration = _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    return KeySet.import_key_set(_get(configuration["jwks_uri"]))


def _get(url: str) -> Any:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError(f"{url} is no web address")
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (checked above)
        return json.load(answer)
