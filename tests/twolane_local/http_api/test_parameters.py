"""https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-parameter-mapping.html"""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.aws.events.http import HttpRequest, HttpResponse, RouteMatch
from twolane_local.aws.http_api.integrations import ParameterValues, mapped_request, mapped_response

BODY = {"a": {"b": [1, {"c": "deep"}]}, "dotted.name": True, "none": None}
REQUEST = HttpRequest(
    method="POST",
    path="/shops/north",
    raw_path="/shops/north",
    query="x=1&x=2&y=a%20b",
    headers=(("x-a", "1"), ("x-a", "2"), ("user-agent", "test")),
    body=json.dumps(BODY).encode(),
    request_id="r-1",
)
MATCH = RouteMatch(
    "POST /shops/{shop}",
    "/shops/{shop}",
    "fn",
    {"shop": "north"},
    api_id="api",
    stage="prod",
    authorizer={"jwt": {"claims": {"sub": "ali"}}},
    stage_variables={"color": "green"},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$request.header.X-A", "1,2"),
        ("${request.header.x-a}", "1,2"),
        ("$request.querystring.x", "1,2"),
        ("$request.querystring.y", "a b"),
        ("$request.path", "/shops/north"),
        ("$request.path.shop", "north"),
        ("$request.body", json.dumps(BODY)),
        ("$request.body.a.b[1].c", "deep"),
        ("$request.body.a.b", '[1,{"c":"deep"}]'),
        ("$request.body['dotted.name']", "true"),
        ("$request.body.a.b[9]", None),
        ("$request.body.none", None),
        ("$request.header.none", None),
        ("$stageVariables.color", "green"),
        ("$context.requestId", "r-1"),
        ("$context.path", "/prod/shops/north"),
        ("$context.authorizer.jwt.claims.sub", "ali"),
        ("$context.unknown", None),
        ("${request.path.shop}-${stageVariables.color}!", "north-green!"),
        ("static $5 value", "static $5 value"),
    ],
)
def test_what_a_selection_stands_for(text: str, value: str | None) -> None:
    assert ParameterValues(REQUEST, MATCH)(text) == value


def test_headers_and_query_of_a_request() -> None:
    mapping = {
        "append:header.X-A": "3",
        "overwrite:header.x-new": "$stageVariables.color",
        "remove:header.user-agent": "''",
        "overwrite:querystring.x": "z&z",
        "remove:querystring.y": "''",
    }
    request, path = mapped_request(REQUEST, mapping, ParameterValues(REQUEST, MATCH))
    assert request.headers == (("x-a", "1"), ("x-a", "2"), ("x-a", "3"), ("x-new", "green"))
    assert (request.query, path) == ("x=z%26z", None)


def test_a_query_that_is_not_mapped_stays_as_it_was_sent() -> None:
    request, path = mapped_request(
        REQUEST, {"overwrite:path": "static"}, ParameterValues(REQUEST, MATCH)
    )
    assert (request.query, path) == ("x=1&x=2&y=a%20b", "/static")


@pytest.mark.parametrize(
    "given",
    [
        {"append:header.x-id": "$response.body.id", "overwrite:statuscode": "201"},
        {"ResponseParameters": [
            {"Source": "$response.body.id", "Destination": "append:header.x-id"},
            {"Source": "201", "Destination": "overwrite:statuscode"},
        ]},
    ],
)  # fmt: skip
def test_a_response_by_its_status(given: dict[str, Any]) -> None:
    def values(response: HttpResponse) -> ParameterValues:
        return ParameterValues(REQUEST, MATCH, response)

    response = HttpResponse(200, (("x-b", "c"),), b'{"id": 7}')
    mapped = mapped_response(response, {"200": given}, values)
    assert (mapped.status, mapped.headers) == (201, (("x-b", "c"), ("x-id", "7")))
    assert mapped_response(response, {"404": given}, values) == response
