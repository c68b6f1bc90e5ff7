"""https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html"""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from twolane_local.aws.events.http import HttpRequest, RouteMatch
from twolane_local.aws.http_api.authorizers import Authorizers, Verdict, evaluate_policy
from twolane_local.aws.invocation import Invocation
from twolane_local.clock import SystemClock
from twolane_local.errors import RealAwsError
from twolane_local.model import RouteSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...conftest import Serve  # noqa: TID252

MATCH = RouteMatch("GET /x", "/x", "fn", api_id="api", stage="Prod")
ARN = "arn:aws:execute-api:us-east-1:123456789012:api/Prod/GET/x"
URI = (
    "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/"
    "arn:aws:lambda:us-east-1:123456789012:function:auth/invocations"
)


class Deciding:
    """The authorizer function: gives the test's answer, remembers the questions."""

    def __init__(self, answer: Any, error: str | None = None) -> None:
        self.questions: list[dict[str, Any]] = []
        self.answer = answer
        self.error = error

    async def invoke(
        self, function: str, event: bytes, *, request_id: str | None = None
    ) -> Invocation:
        assert function == "auth"
        self.questions.append(json.loads(event))
        return Invocation("", json.dumps(self.answer).encode(), self.error)


def request(token: str | None = "secret", **more: str) -> HttpRequest:
    headers = (("authorization", token),) if token else ()
    return HttpRequest("GET", "/x", "/x", more.get("query", ""), headers)


def route(kind: str = "httpapi", payload: str = "2.0", **authorizer: Any) -> RouteSpec:
    base = {"type": "request", "authorizerUri": URI, **authorizer}
    return RouteSpec("fn", "GET", "/x", kind, payload, "api", "Prod", authorizer=base)


def check(spec: RouteSpec, invoker: Any, *requests: HttpRequest) -> list[Verdict]:
    async def main() -> list[Verdict]:
        authorizers = Authorizers(invoker, SystemClock())
        event = {"version": "2.0", "body": "hidden", "routeKey": "GET /x"}
        return [
            await authorizers.check(spec, each, MATCH, event) for each in requests or [request()]
        ]

    return asyncio.run(main())


HEADER = ["$request.header.Authorization"]


def test_a_simple_response() -> None:
    spec = route(
        identitySource=HEADER, authorizerPayloadFormatVersion="2.0", enableSimpleResponses=True
    )
    invoker = Deciding({"isAuthorized": True, "context": {"user": "me", "n": 1}})
    (verdict,) = check(spec, invoker)
    assert verdict == Verdict({"lambda": {"user": "me", "n": 1}})
    (question,) = invoker.questions
    assert question == {
        "version": "2.0",
        "routeKey": "GET /x",
        "type": "REQUEST",
        "routeArn": ARN,
        "identitySource": ["secret"],
    }
    (denied,) = check(spec, Deciding({"isAuthorized": False}))
    assert denied.status == 403


def policy(effect: str, resource: str = ARN) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    return {
        "principalId": "me",
        "policyDocument": {"Statement": [statement]},
        "context": {"flag": True, "n": 1},
    }


def test_a_rest_api_with_a_token_authorizer() -> None:
    spec = route("rest", "1.0", type="token", scheme={"name": "Authorization"})
    invoker = Deciding(policy("Allow"))
    (verdict,) = check(spec, invoker)
    assert verdict == Verdict({"principalId": "me", "flag": "true", "n": "1"})
    assert invoker.questions == [
        {"type": "TOKEN", "methodArn": ARN, "authorizationToken": "secret"}
    ]
    (denied,) = check(spec, Deciding(policy("Deny")))
    assert denied.status == 403


def test_a_missing_identity_is_401_without_a_question() -> None:
    invoker = Deciding(policy("Allow"))
    (verdict,) = check(route(identitySource=HEADER), invoker, request(None))
    assert (verdict.status, invoker.questions) == (401, [])


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        ({"errorMessage": "Unauthorized", "errorType": "Exception"}, "Unhandled", 401),
        ({"errorMessage": "other", "errorType": "Exception"}, "Unhandled", 500),
        ("text", None, 500),
    ],
)
def test_an_authorizer_that_fails(answer: Any, error: str | None, status: int) -> None:
    (verdict,) = check(route(identitySource=HEADER), Deciding(answer, error))
    assert verdict.status == status


def test_an_answer_is_kept_for_its_time_and_its_identity() -> None:
    spec = route(identitySource=HEADER, authorizerResultTtlInSeconds=60)
    invoker = Deciding(policy("Allow"))
    check(spec, invoker, request(), request(), request("other"))
    assert len(invoker.questions) == 2
    without = Deciding(policy("Allow"))
    check(route(identitySource=HEADER), without, request(), request())
    assert len(without.questions) == 2


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([("Allow", "*")], True),
        ([("Allow", "arn:aws:execute-api:*:*:api/Prod/GET/*")], True),
        ([("Allow", "arn:aws:execute-api:*:*:api/Prod/POST/*")], False),
        ([("Allow", "*"), ("Deny", ARN)], False),
        ([], False),
    ],
)
def test_policies(statements: list[tuple[str, str]], allowed: bool) -> None:
    document = {
        "Statement": [
            {"Effect": effect, "Action": ["execute-api:*"], "Resource": [resource]}
            for effect, resource in statements
        ]
    }
    assert bool(evaluate_policy(document, ARN)) is allowed


KEY = RSAKey.generate_key(2048, {"kid": "1"})
OTHER = RSAKey.generate_key(2048, {"kid": "1"})


@pytest.fixture(scope="module")
def issuer(serve: Serve) -> Iterator[str]:
    """A local OpenID provider: its configuration and its keys."""

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("openid-configuration"):
                body: Any = {"jwks_uri": f"{url}/keys"}
            else:
                body = KeySet([KEY]).as_dict(private=False)
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with serve(Provider) as address:
        url = f"http://{address}"
        yield url


def token(issuer: str, key: RSAKey = KEY, **claims: Any) -> str:
    now = SystemClock().time()
    everything = {"iss": issuer, "aud": "app", "exp": now + 60, "scope": "read write", **claims}
    return jwt.encode({"alg": "RS256", "kid": "1"}, everything, key)


def check_jwt(issuer: str, bearer: str, **authorizer: Any) -> Verdict:
    spec = RouteSpec(
        "fn",
        authorizer={
            "type": "jwt",
            "jwtConfiguration": {"issuer": issuer, "audience": ["app"]},
            "identitySource": "$request.header.Authorization",
            **authorizer,
        },
    )
    (verdict,) = check(spec, None, request(bearer))
    return verdict


def test_a_valid_token(issuer: str) -> None:
    verdict = check_jwt(issuer, f"Bearer {token(issuer, groups=['a', 'b'], admin=True)}")
    assert verdict.status == 200
    assert verdict.context is not None
    claims = verdict.context["jwt"]["claims"]
    assert (claims["iss"], claims["groups"], claims["admin"]) == (issuer, "[a b]", "true")
    assert verdict.context["jwt"]["scopes"] is None


def test_scopes(issuer: str) -> None:
    allowed = check_jwt(issuer, token(issuer), scopes=["write", "admin"])
    assert allowed.context is not None
    assert allowed.context["jwt"]["scopes"] == ["read", "write"]
    assert check_jwt(issuer, token(issuer), scopes=["admin"]).status == 403


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 1}, "expired"),
        ({"nbf": 4102444800}, "not valid yet"),
        ({"aud": "other"}, "invalid audience"),
        ({"iss": "http://evil.example"}, "invalid issuer"),
        ({"aud": None, "client_id": "other"}, "invalid audience"),
    ],
)
def test_tokens_that_are_refused(issuer: str, claims: dict[str, Any], words: str) -> None:
    verdict = check_jwt(issuer, token(issuer, **claims))
    assert verdict.status == 401
    assert words in verdict.challenge


def test_a_forged_token_and_none(issuer: str) -> None:
    assert check_jwt(issuer, token(issuer, OTHER)).status == 401
    assert check_jwt(issuer, "Bearer nonsense").status == 401
    assert check_jwt(issuer, "Bearer ").status == 401


def test_an_issuer_on_aws_is_refused_by_name() -> None:
    cognito = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_x"
    with pytest.raises(RealAwsError, match="cognito-idp"):
        check_jwt(cognito, "Bearer x")
