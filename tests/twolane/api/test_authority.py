"""Whom a request was sent to, and that no client can make an event fail."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twolane.api.events import HANDLERS, TEXT_MIME_TYPES, BadRequestError, server_of


@pytest.mark.parametrize(
    ("host", "forwarded_port", "server"),
    [
        ("example.com", "443", ("example.com", 443)),
        ("example.com:8443", "443", ("example.com", 8443)),
        ("example.com:", "443", ("example.com", 443)),
        ("example.com", "443, 80", ("example.com", 443)),
        ("example.com", "", ("example.com", 80)),
        ("example.com", "https", ("example.com", 80)),
        ("example.com", "²", ("example.com", 80)),
        ("[2001:db8::1]:8443", "443", ("2001:db8::1", 8443)),
        ("[::ffff:192.0.2.1]", "443", ("::ffff:192.0.2.1", 443)),
        ("192.0.2.1", "443", ("192.0.2.1", 443)),
        ("", "443", ("mangum", 443)),
    ],
)
def test_every_form_of_a_host(host, forwarded_port, server) -> None:
    assert server_of(host, forwarded_port) == server


@pytest.mark.parametrize("host", ["a:b", "a:1:2", "::1", "[::1", "[::1]x", "a b", "a:-1", "a:٣"])
def test_what_is_no_host_is_a_bad_request(host) -> None:
    with pytest.raises(BadRequestError, match="Host"):
        server_of(host, "443")


# A client has its hands in all of these: method, path, query, headers, cookies, body.
TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=12)
NAMES = st.sampled_from(
    ["host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-for", "cookie", "x-a",
     "content-type", "cloudfront-forwarded-proto"]
)  # fmt: skip
SINGLE = st.dictionaries(NAMES, TEXT, max_size=5)
MULTIPLE = st.dictionaries(NAMES, st.lists(TEXT, min_size=1, max_size=3), max_size=5)
BODY = {"body": st.none() | TEXT, "isBase64Encoded": st.booleans()}
REQUEST = {"httpMethod": TEXT, "path": TEXT, **BODY}
ELB = {"elb": st.just({"targetGroupArn": "arn"})}
API_CONTEXT = st.fixed_dictionaries(
    {"identity": st.just({"sourceIp": "203.0.113.7"}), "stage": st.just("Prod")},
    optional={"path": TEXT},
)
EVENTS = {
    "http": st.fixed_dictionaries(
        {
            "version": st.just("2.0"),
            "headers": SINGLE,
            "rawQueryString": TEXT,
            "requestContext": st.fixed_dictionaries(
                {
                    "http": st.fixed_dictionaries(
                        {"method": TEXT, "path": TEXT, "sourceIp": st.just("203.0.113.7")}
                    ),
                    "stage": st.sampled_from(["$default", "dev"]),
                    "domainName": TEXT,
                }
            ),
            **BODY,
        },
        optional={"cookies": st.lists(TEXT, max_size=3)},
    ),
    "rest": st.fixed_dictionaries(
        {
            "resource": st.just("/{proxy+}"),
            "requestContext": API_CONTEXT,
            "headers": st.none() | SINGLE,
            "multiValueHeaders": st.none() | MULTIPLE,
            "queryStringParameters": st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
            "multiValueQueryStringParameters": st.none()
            | st.dictionaries(TEXT, st.lists(TEXT, max_size=3), max_size=3),
            **REQUEST,
        }
    ),
    "alb": st.fixed_dictionaries(
        {
            "requestContext": st.fixed_dictionaries(ELB),
            "headers": SINGLE,
            "queryStringParameters": st.dictionaries(TEXT, TEXT, max_size=3),
            **REQUEST,
        }
    ),
    "alb-multi": st.fixed_dictionaries(
        {
            "requestContext": st.fixed_dictionaries(ELB),
            "multiValueHeaders": MULTIPLE,
            "multiValueQueryStringParameters": st.dictionaries(
                TEXT, st.lists(TEXT, max_size=3), max_size=3
            ),
            **REQUEST,
        }
    ),
    "edge": st.fixed_dictionaries(
        {
            "clientIp": st.just("203.0.113.7"),
            "method": TEXT,
            "uri": TEXT,
            "querystring": TEXT,
            "headers": st.dictionaries(
                NAMES,
                st.lists(st.fixed_dictionaries({"value": TEXT}), min_size=1, max_size=3),
                max_size=5,
            ),
            "body": st.fixed_dictionaries(
                {"data": TEXT, "encoding": st.sampled_from(["base64", "text"])}
            ),
        }
    ).map(lambda request: {"Records": [{"cf": {"request": request}}]}),
}
CONFIG: Any = {
    "api_gateway_base_path": "/api",
    "text_mime_types": TEXT_MIME_TYPES,
    "exclude_headers": [],
}


@pytest.mark.parametrize("source", EVENTS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_client_sends_is_read_or_refused(source, data) -> None:
    event = data.draw(EVENTS[source])
    (kind,) = [k for k in HANDLERS if k.infer(event, SimpleNamespace(), CONFIG)][:1]
    handler = kind(event, SimpleNamespace(), CONFIG)
    try:
        scope, body = handler.scope, handler.body
    except BadRequestError as exc:
        answer = handler.bad_request(str(exc))
        assert answer.get("statusCode", answer.get("status")) == 400
        json.dumps(answer).encode()
    else:
        assert isinstance(body, bytes)
        assert all(isinstance(k, bytes) and isinstance(v, bytes) for k, v in scope["headers"])
        assert isinstance(scope["query_string"], bytes)
        scope["path"].encode()
        answer = handler({"status": 200, "headers": [(b"x-a", b"1")], "body": b"\xff"})
        json.dumps(answer)
