"""Authorizers of routes: Lambda authorizers, JWT authorizers, and IAM.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from twolane_local.aws.invocation import TenancyError, ThrottledError
from twolane_local.aws.real_aws import is_aws_host
from twolane_local.errors import RealAwsError
from twolane_local.model import ACCOUNT, REGION
from twolane_local.model.openapi import function_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.events.http import HttpRequest, RouteMatch
    from twolane_local.aws.invocation import Invoker
    from twolane_local.clock import Clock
    from twolane_local.model import RouteSpec


#: The seconds for which an issuer's keys are kept; a token with an unknown key fetches them again.
_KEYS_S = 7200.0
#: API Gateway supports only RSA.
_ALGORITHMS = ["RS256", "RS384", "RS512"]


class TokenError(Exception):
    """The token is not valid; the text is the ``error_description`` of the response."""


class JwtChecker:
    """Checks tokens against their issuer's published keys."""

    def __init__(self, clock: Clock, *, allow_real_aws: bool = False) -> None:
        self._clock = clock
        self._allow_real_aws = allow_real_aws
        self._keys: dict[str, tuple[float, Any]] = {}

    async def check(self, token: str, issuer: str, audience: list[str]) -> dict[str, Any]:
        """The token's claims; raises ``TokenError``, or ``RealAwsError`` for an issuer on AWS."""
        # The import takes a tenth of a second, and few projects have JWT authorizers.
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
        # `client_id` counts only if there is no `aud`.
        given = claims.get("aud", claims.get("client_id"))
        if not set(given if isinstance(given, list) else [given]) & set(audience):
            raise TokenError("invalid audience")
        try:
            if "exp" not in claims or float(claims["exp"]) <= now:
                raise TokenError("the token has expired")
            if float(claims.get("nbf", 0)) > now or float(claims.get("iat", 0)) > now:
                raise TokenError("the token is not valid yet")
        except (TypeError, ValueError) as error:
            raise TokenError("a time in the token is not a number") from error

    async def _issuer_keys(self, issuer: str, *, fresh: bool) -> Any:
        kept = self._keys.get(issuer)
        if kept is not None and not fresh and kept[0] > self._clock.time():
            return kept[1]
        host = urlsplit(issuer).hostname or ""
        if is_aws_host(host) and not self._allow_real_aws:
            raise RealAwsError(
                f"the JWT authorizer's issuer {issuer} is real AWS; set another one by a "
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
        raise ValueError(f"{url} is not a web address")
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (checked above)
        return json.load(answer)


#: The seconds for which an authorizer's answer is kept, unless the template sets them.
_TTL_S = {"rest": 300.0, "httpapi": 0.0}


@dataclass(frozen=True, slots=True)
class Verdict:
    """An authorizer's decision: the ``context`` for the event, or a status of 401, 403 or 500."""

    context: Mapping[str, Any] | None = None
    status: int = 200
    reason: str = ""
    challenge: str = ""  # of WWW-Authenticate
    explicit: bool = False  # a policy denies the request, rather than not allowing it
    unsigned: bool = False  # IAM guards the route
    usage_key: str = ""  # the caller's API key, as the authorizer names it


class Authorizers:
    """Decides on requests, and keeps decisions for as long as the authorizer allows."""

    def __init__(self, invoker: Invoker, clock: Clock, *, allow_real_aws: bool = False) -> None:
        self._invoker = invoker
        self._clock = clock
        self._jwt = JwtChecker(clock, allow_real_aws=allow_real_aws)
        self._kept: dict[tuple[Any, ...], tuple[float, dict[str, Any]]] = {}

    async def check(
        self, route: RouteSpec, request: HttpRequest, match: RouteMatch, event: dict[str, Any]
    ) -> Verdict:
        """``event`` is the function's event; a request authorizer gets most of it."""
        authorizer = route.authorizer or {}
        kind = str(authorizer.get("type", "")).lower()
        if route.kind == "url" or kind == "iam":
            signed = request.header("authorization").startswith("AWS4-HMAC-SHA256")
            reason = "the request is not signed"
            return Verdict() if signed else Verdict(status=403, reason=reason, unsigned=True)
        if kind == "jwt":
            return await self._check_jwt(route, authorizer, request)
        if kind in {"request", "token"}:
            return await self._check_lambda(route, authorizer, request, match, event)
        return Verdict()  # this kind is not emulated, which the template's remarks say

    async def _check_jwt(
        self, route: RouteSpec, authorizer: Mapping[str, Any], request: HttpRequest
    ) -> Verdict:
        sources = identity_sources(authorizer) or ["$request.header.Authorization"]
        value = identity(request, sources[0], {}) or ""
        token = re.sub(r"(?i)^bearer\s+", "", value)
        if not token:
            return Verdict(status=401, reason="no token", challenge="Bearer")
        configuration = authorizer.get("jwtConfiguration") or {}
        try:
            claims = await self._jwt.check(
                token, str(configuration.get("issuer")), list(configuration.get("audience") or ())
            )
        except TokenError as error:
            challenge = f'Bearer error="invalid_token" error_description="{error}"'
            return Verdict(status=401, reason=str(error), challenge=challenge)
        wanted = list(authorizer.get("scopes") or ())
        granted = scopes_of(claims)
        if wanted and not set(wanted) & set(granted):
            return Verdict(status=403, reason="the token lacks the route's scopes")
        flat = {name: _claim_text(claim) for name, claim in claims.items()}
        # The event has scopes only if the route requires some.
        jwt = {"claims": flat, "scopes": granted if wanted else None}
        return Verdict(jwt if route.payload == "1.0" else {"jwt": jwt})

    async def _check_lambda(
        self,
        route: RouteSpec,
        authorizer: Mapping[str, Any],
        request: HttpRequest,
        match: RouteMatch,
        event: dict[str, Any],
    ) -> Verdict:
        sources = identity_sources(authorizer)
        identities = [identity(request, source, event) for source in sources]
        expression = authorizer.get("identityValidationExpression")
        if sources and not all(identities):
            return Verdict(status=401, reason="an identity source is missing")
        if expression and not re.fullmatch(str(expression), str(identities[0])):
            return Verdict(status=401, reason="the token does not match the validation expression")
        arn = method_arn(route, request, match)
        ttl = float(authorizer.get("authorizerResultTtlInSeconds", _TTL_S.get(route.kind, 0.0)))
        function = function_name(authorizer.get("authorizerUri", "")) or ""
        # An HTTP API keeps a decision for the route, a REST API for all that its policy names.
        key = (
            route.api_id,
            route.stage,
            authorizer.get("name"),
            function,
            *identities,
            *(() if route.kind == "rest" else (arn,)),
        )
        kept = self._kept.get(key)
        if sources and kept is not None and kept[0] > self._clock.time():
            return verdict_of(kept[1], authorizer, route, arn)
        theirs = _authorizer_event(
            authorizer, route, event, arn, [item or "" for item in identities]
        )
        answer = await self._invoke(function, theirs, route)
        if isinstance(answer, Verdict):
            return answer
        if ttl and sources:
            self._kept[key] = (self._clock.time() + ttl, answer)
        return verdict_of(answer, authorizer, route, arn)

    async def _invoke(
        self, function: str, event: dict[str, Any], route: RouteSpec
    ) -> dict[str, Any] | Verdict:
        """The answer of an authorizer's function, or the verdict if it fails."""
        try:
            outcome = await self._invoker.invoke(function, json.dumps(event).encode())
            answer = json.loads(outcome.payload)
        except (ThrottledError, TenancyError) as refused:
            throttles = isinstance(refused, ThrottledError)
            return Verdict(
                status=500, reason="the authorizer throttles" if throttles else str(refused)
            )
        except ValueError:
            return Verdict(status=500, reason="the authorizer did not return JSON")
        if not isinstance(answer, dict):
            return Verdict(status=500, reason="the authorizer did not return an object")
        if outcome.error is None:
            problem = _answer_problem(answer) if route.kind == "rest" else ""
            return Verdict(status=500, reason=problem) if problem else answer
        if answer.get("errorMessage") == "Unauthorized":
            return Verdict(status=401, reason="the authorizer raised Unauthorized")
        return Verdict(status=500, reason=f"the authorizer failed: {answer.get('errorType')}")


def identity_sources(authorizer: Mapping[str, Any]) -> list[str]:
    """The expressions that select the caller's identity in a request."""
    given = authorizer.get("identitySource")
    if isinstance(given, list):
        return [str(item) for item in given]
    if given:
        return [part.strip() for part in str(given).split(",") if part.strip()]
    if str(authorizer.get("type", "")).lower() == "token":
        name = (authorizer.get("scheme") or {}).get("name", "Authorization")
        return [f"method.request.header.{name}"]
    return []


def _answer_problem(answer: Mapping[str, Any]) -> str:
    """The reason for which a REST API refuses an authorizer's answer, empty if it accepts it.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html
    """
    if not isinstance(answer.get("principalId"), str):
        return "the authorizer returned no principalId"
    if not isinstance(answer.get("policyDocument"), dict):
        return "the authorizer returned no policyDocument"
    context = answer.get("context") or {}
    if not isinstance(context, dict):
        return "the authorizer's context is not an object"
    nested = [name for name, value in context.items() if isinstance(value, dict | list)]
    return f"the authorizer's context has an object or a list: {nested[0]}" if nested else ""


def identity(request: HttpRequest, source: str, event: Mapping[str, Any]) -> str | None:
    """The value of ``$request.header.X``, ``method.request.querystring.Y`` and the like."""
    _, _, rest = source.lstrip("$").partition("request.")
    place, _, name = rest.partition(".")
    if place == "header":
        return request.header(name.lower()) or None
    if place == "querystring":
        values = parse_qs(request.query).get(name)
        return values[0] if values else None
    root, _, path = source.lstrip("$").partition(".")
    found: Any = event.get({"context": "requestContext"}.get(root, root))
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return None if found in {None, ""} else str(found)


def method_arn(route: RouteSpec, request: HttpRequest, match: RouteMatch) -> str:
    """The resource that a policy allows or denies."""
    path = request.path.lstrip("/")
    arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{route.api_id}/{match.stage}/{request.method}"
    return f"{arn}/{path}"


def _authorizer_event(
    authorizer: Mapping[str, Any],
    route: RouteSpec,
    event: dict[str, Any],
    arn: str,
    identities: list[str],
) -> dict[str, Any]:
    if str(authorizer.get("type", "")).lower() == "token":
        token = identities[0] if identities else ""
        return {"type": "TOKEN", "methodArn": arn, "authorizationToken": token}
    version = str(authorizer.get("authorizerPayloadFormatVersion", "1.0"))
    kept = {name: value for name, value in event.items() if name != "body"}
    kept.pop("isBase64Encoded", None)
    if route.kind == "httpapi" and version == "2.0":
        return {**kept, "type": "REQUEST", "routeArn": arn, "identitySource": identities}
    if route.kind == "rest":
        return {"type": "REQUEST", "methodArn": arn, **kept}
    first = identities[0] if identities else ""
    return {
        **kept,
        "type": "REQUEST",
        "methodArn": arn,
        "identitySource": first,
        "authorizationToken": first,
    }


def verdict_of(
    answer: Mapping[str, Any], authorizer: Mapping[str, Any], route: RouteSpec, arn: str
) -> Verdict:
    """The verdict of an authorizer's answer on one resource."""
    context = dict(answer.get("context") or {})
    simple = str(authorizer.get("enableSimpleResponses", False)).lower() == "true"
    if simple:
        allowed: bool | None = answer.get("isAuthorized") is True
    else:
        allowed = evaluate_policy(answer.get("policyDocument") or {}, arn)
    if not allowed:
        return Verdict(
            status=403, reason="the authorizer denies it", explicit=allowed is False and not simple
        )
    if route.kind == "httpapi" and route.payload == "2.0":
        return Verdict({"lambda": context})
    flat = {name: _claim_text(value) for name, value in context.items()}
    usage_key = str(answer.get("usageIdentifierKey") or "")
    return Verdict({"principalId": answer.get("principalId", ""), **flat}, usage_key=usage_key)


def evaluate_policy(policy: Mapping[str, Any], arn: str) -> bool | None:
    """True if the policy allows the resource, False if it denies it, ``None`` if it does neither.

    An explicit deny wins.
    """
    allowed: bool | None = None
    for statement in _listed(policy.get("Statement")):
        actions = [str(item).lower() for item in _listed(statement.get("Action"))]
        if not any(_matches(action, "execute-api:invoke") for action in actions):
            continue
        if not any(_matches(str(item), arn) for item in _listed(statement.get("Resource"))):
            continue
        if statement.get("Effect") == "Deny":
            return False
        if statement.get("Effect") == "Allow":
            allowed = True
    return allowed


def _matches(pattern: str, text: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def scopes_of(claims: Mapping[str, Any]) -> list[str]:
    """The scopes in ``scope`` (words in one text) or ``scp`` (a list, or the same)."""
    value = claims.get("scope", claims.get("scp", ""))
    return [str(item) for item in value] if isinstance(value, list) else str(value).split()


def _claim_text(value: Any) -> str:
    """A claim as text, as the event has it; a list becomes ``[a b]``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(_claim_text(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value)
