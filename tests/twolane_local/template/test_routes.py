from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local import template
from twolane_local.errors import TemplateError
from twolane_local.model.openapi import function_name
from twolane_local.template import stack

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: ., Runtime: python3.13, Handler: a.b}}
Resources:
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        Authorizers:
          Tokens:
            JwtConfiguration: {issuer: "https://issuer.example", audience: [app]}
            IdentitySource: $request.header.Authorization
          Mine:
            FunctionArn: !GetAtt Decide.Arn
            AuthorizerPayloadFormatVersion: "2.0"
            EnableSimpleResponses: true
            Identity: {Headers: [Authorization], ReauthorizeEvery: 60}
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      Auth:
        Authorizers:
          Pool: {UserPoolArn: "arn:aws:cognito-idp:us-east-1:123456789012:userpool/x"}
  Decide: {Type: AWS::Serverless::Function}
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A:
          Type: HttpApi
          Properties:
            ApiId: !Ref Http
            Path: /a
            Method: get
            Auth: {Authorizer: Tokens, AuthorizationScopes: [read]}
        B:
          Type: HttpApi
          Properties: {ApiId: !Ref Http, Path: /b, Method: get, Auth: {Authorizer: Mine}}
        C:
          Type: Api
          Properties: {RestApiId: !Ref Rest, Path: /c, Method: get, Auth: {Authorizer: Pool}}
"""


def test_authorizers_and_what_is_not_emulated(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    loaded = template.load(tmp_path / "template.yaml", {}, stack_name="s")
    facts = stack.BuildContext("http://127.0.0.1:1", lambda _: "", lambda *_: "")
    made, notes = stack.build(loaded, facts)
    routes = {route.path: route for route in made.routes}
    tokens = routes["/a"].authorizer
    assert tokens is not None
    assert (tokens["type"], tokens["scopes"]) == ("jwt", ["read"])
    assert tokens["jwtConfiguration"] == {"issuer": "https://issuer.example", "audience": ["app"]}
    mine = routes["/b"].authorizer
    assert mine is not None
    assert mine["type"] == "request"
    assert function_name(mine["authorizerUri"]) == "Decide"
    assert mine["authorizerResultTtlInSeconds"] == 60
    (note,) = notes
    assert "Rest is not emulated: Pool guards a route and lets everyone pass here" in note


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("arn:aws:lambda:us-east-1:1:function:fn", "fn"),
        ("arn:aws:lambda:us-east-1:1:function:fn:live", "fn"),
        ("arn:aws:apigateway:r:lambda:path/x/functions/arn:aws:lambda:r:1:function:fn/invocations",
         "fn"),
        ("fn", "fn"),
        ("arn:aws:sqs:us-east-1:1:q", None),
    ],
)  # fmt: skip
def test_the_function_in_a_name(value: str, name: str | None) -> None:
    assert function_name(value) == name


NO_KEY = """TimeoutInMillis: 1000}}
  R: {Type: 'AWS::ApiGatewayV2::Route', Properties: {ApiId: !Ref Api"""


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("TimeoutInMillis: 40000", "timeoutInMillis must be 50 to 30000, not 40000"),
        ("TimeoutInMillis: soon", "timeoutInMillis must be a whole number, not 'soon'"),
        (NO_KEY, "R has no RouteKey"),
    ],
)
def test_what_aws_refuses_of_an_http_api(tmp_path: Path, part: str, error: str) -> None:
    (tmp_path / "template.yaml").write_text(
        f"""
Resources:
  Api: {{Type: "AWS::ApiGatewayV2::Api", Properties: {{Name: a, ProtocolType: HTTP}}}}
  Get:
    Type: AWS::ApiGatewayV2::Route
    Properties: {{ApiId: !Ref Api, RouteKey: GET /, Target: !Sub "integrations/${{I}}"}}
  I: {{Type: "AWS::ApiGatewayV2::Integration", Properties: {{ApiId: !Ref Api, {part}}}}}
"""
    )
    loaded = template.load(tmp_path / "template.yaml", {}, stack_name="s")
    facts = stack.BuildContext("http://127.0.0.1:1", lambda _: "", lambda *_: "")
    with pytest.raises(TemplateError, match=error):
        stack.build(loaded, facts)
