from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local import template
from twolane_local.template import stack

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: src/, Runtime: python3.13}}
Resources:
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      Auth:
        DefaultAuthorizer: Pool
        Authorizers:
          Pool: {UserPoolArn: "arn:aws:cognito-idp:us-east-1:123456789012:userpool/x"}
  Open:
    Type: AWS::Serverless::Api
    Properties: {StageName: v1}
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      Handler: a.b
      Events:
        Keyed: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /, Method: get}}
        Other: {Type: Api, Properties: {RestApiId: !Ref Open, Path: /, Method: get}}
  Chat:
    Type: AWS::ApiGatewayV2::Api
    Properties: {Name: chat, ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.a}
  Domain:
    Type: AWS::ApiGateway::DomainName
"""


def test_each_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    file = tmp_path / "template.yaml"
    file.write_text(TEMPLATE)
    facts = stack.BuildContext("http://127.0.0.1:4566", lambda api: api, lambda *_: "x")
    built, notes = stack.build(template.load(file, {}, stack_name="s"), facts)
    said = {}
    for note in notes:
        where, _, what = note.partition(" is not emulated: ")
        place, _, name = where.rpartition(" ")
        said[name] = (place.rstrip(":").rpartition(":")[2], what)
    lines = TEMPLATE.splitlines()

    def line(name: str) -> str:
        return str(lines.index(f"  {name}:") + 1)

    local = "each API is served at its own local address only"
    assert said["Rest"] == (line("Rest"), "Pool guards a route and lets everyone pass here")
    assert said["Domain"] == (line("Domain"), local)
    assert said["Chat"] == (line("Chat"), "APIs of WebSockets are not served")
    assert "Open" not in said
    assert {route.api_id for route in built.routes} == {"rest", "open"}
