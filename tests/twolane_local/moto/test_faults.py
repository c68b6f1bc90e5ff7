"""Errors in the shape of each service, as botocore's own parsers read them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

from twolane_local.aws.moto import faults
from twolane_local.aws.moto.faults import Call, Fault, ServiceErrors, answer, call_of, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FAULT = Fault(500, "InternalFailure", "moto failed: <x> & \x00 \ud800 é")


def signed(service: str) -> str:
    scope = f"local/20260101/us-east-1/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("service", "protocol"),
    [("dynamodb", "json"), ("sns", "query"), ("ec2", "ec2"), ("s3", "rest-xml"),
     ("route53", "rest-xml"), ("apigateway", "rest-json"), ("monitoring", "cbor")],
)  # fmt: skip
def test_botocore_reads_an_error_of_each_protocol(service: str, protocol: str) -> None:
    status, headers, body = answer(Call(service, "Op", protocol), FAULT)
    parser = create_parser("smithy-rpc-v2-cbor" if protocol == "cbor" else protocol)
    given = {"status_code": status, "headers": dict(headers), "body": body}
    error = parser.parse(given, None)["Error"]
    assert error["Code"] == "InternalFailure"
    assert error["Message"] == "moto failed: <x> & ? ? é"
    assert dict(headers)["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("service", "headers", "target", "body", "call"),
    [
        ("dynamodb", {"x-amz-target": "DynamoDB_20120810.PutItem"}, "/", b"{}",
         ("dynamodb", "PutItem", "json")),
        ("sns", {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}, "/",
         b"Action=Publish&Version=1", ("sns", "Publish", "query")),
        ("ec2", {"content-type": "application/x-www-form-urlencoded"}, "/", b"Action=RunInstances",
         ("ec2", "RunInstances", "ec2")),
        ("sts", {}, "/?Action=GetCallerIdentity", b"", ("sts", "GetCallerIdentity", "query")),
        ("s3", {"content-type": "application/x-www-form-urlencoded"}, "/b/k", b"x",
         ("s3", "POST /b/k", "rest-xml")),
        ("apigateway", {"content-type": "application/json"}, "/restapis", b"{}",
         ("apigateway", "POST /restapis", "rest-json")),
        ("monitoring", {"smithy-protocol": "rpc-v2-cbor"},
         "/service/GraniteServiceVersion20100801/operation/PutMetricData", b"\xa0",
         ("monitoring", "PutMetricData", "cbor")),
        ("dynamodb", {"content-type": "application/x-amz-json-1.0"}, "/", b"",
         ("dynamodb", "POST /", "json")),
        ("sns", {"content-type": "application/x-www-form-urlencoded"}, "/", b"\xff=%zz&",
         ("sns", "POST /", "query")),
    ],
)  # fmt: skip
def test_what_a_call_is(
    service: str, headers: dict[str, str], target: str, body: bytes, call: tuple[str, str, str]
) -> None:
    path, _, query = target.partition("?")
    given = {"authorization": signed(service), **headers}
    assert call_of("POST", path, query, given, body) == call


def test_a_call_that_is_not_signed_is_s3_s_and_one_may_be_signed_in_its_query() -> None:
    assert call_of("GET", "/a", "", {}) == ("s3", "GET /a", "rest-xml")
    query = "X-Amz-Credential=local%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    assert call_of("GET", "/a", query, {}).service == "s3"


def shape(service: str, operation: str) -> Any:
    model = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    return model.operation_model(operation).input_shape


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"TableName": "abc", "Key": {"a": {"S": "x"}}}, None),
        ({"TableName": "abc", "Key": {"a": {"S": "x"}}, "Unknown": 1}, None),
        ({"Key": {}}, "TableName of the request is missing"),
        ({"TableName": "abc", "Key": []}, "Key of the request is not a map"),
        ({"TableName": 5, "Key": {}}, "TableName of the request is not a string"),
        ({"TableName": "", "Key": {}}, "TableName of the request is below the minimum of 1"),
        ({"TableName": "abc", "Key": {"a": "x"}}, "a of Key of the request is not a structure"),
        ({"TableName": "abc", "Key": {}, "ConsistentRead": "yes"},
         "ConsistentRead of the request is not a boolean"),
        ({"TableName": "abc", "Key": {}, "ReturnConsumedCapacity": "ALL"},
         "ReturnConsumedCapacity of the request must be one of INDEXES, TOTAL, NONE"),
        ({"TableName": "abc", "Key": {}, "AttributesToGet": []},
         "AttributesToGet of the request is below the minimum of 1"),
        ({"TableName": "abc", "Key": {}, "AttributesToGet": [1]},
         "an element of AttributesToGet of the request is not a string"),
        ([], "the request is not a structure"),
        (None, "the request is not a structure"),
    ],
)  # fmt: skip
def test_what_is_wrong_by_the_model(given: Any, wrong: str | None) -> None:
    assert problem(shape("dynamodb", "GetItem"), given) == wrong


def ask(
    app: Callable[..., Any], method: str = "POST", **environ: Any
) -> tuple[str, dict[str, str], bytes]:
    started: list[Any] = []
    given = {
        "REQUEST_METHOD": method, "PATH_INFO": "/", "QUERY_STRING": "", "CONTENT_LENGTH": "2",
        "HTTP_AUTHORIZATION": signed("dynamodb"), "HTTP_X_AMZ_TARGET": "DynamoDB_20120810.GetItem",
        "wsgi.input": io.BytesIO(b"{}"), **environ,
    }  # fmt: skip
    content = ServiceErrors(app)(given, lambda status, headers: started.extend((status, headers)))
    return started[0], dict(started[1]), b"".join(content)


def says(status: str, *content: bytes, kind: str = "text/html") -> Callable[..., Iterable[bytes]]:
    def app(_: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        start(status, [("Content-Type", kind)])
        return content

    return app


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        ("500 INTERNAL", "500", "InternalFailure"),
        ("404 NOT FOUND", "404", "UnknownOperationException"),
        ("405 METHOD NOT ALLOWED", "404", "UnknownOperationException"),
        ("308 PERMANENT REDIRECT", "404", "UnknownOperationException"),
        ("400 BAD REQUEST", "400", "ValidationException"),
        ("413 TOO LARGE", "413", "RequestEntityTooLarge"),
    ],
)
def test_a_page_of_flask_s_becomes_an_error_of_the_service(
    status: str, expected: str, code: str
) -> None:
    given, headers, body = ask(says(status, b"<!doctype html>\n<html lang=en>"))
    assert given.startswith(expected)
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert json.loads(body)["__type"] == code


@pytest.mark.parametrize(
    ("status", "content"),
    [
        ("200 OK", [b"<!doctype html><p>an object"]),
        ("200 OK", []),
        ("304 NOT MODIFIED", []),
        ("400 BAD REQUEST", [b' {"message"', b': "x"}']),
        ("400 BAD REQUEST", [b'{"__type": "X"}']),
    ],
)
def test_what_has_a_shape_keeps_it(status: str, content: list[bytes]) -> None:
    given, _, body = ask(says(status, *content))
    assert (given, body) == (status, b"".join(content))


def test_an_error_in_json_of_a_service_that_speaks_xml_is_xml() -> None:
    app = says("400 BAD REQUEST", b'{"__type": "InvalidToken", "message": "no <token>"}')
    form = {
        "HTTP_AUTHORIZATION": signed("sns"), "CONTENT_TYPE": "application/x-www-form-urlencoded"
    }  # fmt: skip
    status, headers, body = ask(app, **form, HTTP_X_AMZ_TARGET="")
    assert (status, headers["content-type"]) == ("400 InvalidToken", "text/xml")
    assert b"<Code>InvalidToken</Code><Message>no &lt;token&gt;</Message>" in body
    assert ask(app)[2].startswith(b"{")  # DynamoDB's is JSON


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        ("400 BAD REQUEST", b"1 validation error detected", "ValidationException"),
        ("404 NOT FOUND", b"Not yet implemented", "ResourceNotFoundException"),
        ("500 INTERNAL", b"[]", "InternalFailure"),
    ],
)
def test_an_error_in_plain_text_gets_the_shape(status: str, content: bytes, code: str) -> None:
    given, _, body = ask(says(status, content))
    assert given.startswith(status[:3])
    assert json.loads(body) == {"__type": code, "message": content.decode()}


def test_an_error_in_xml_has_characters_of_xml_alone() -> None:
    app = says("404 NOT FOUND", b"<Error><Message>\0", b"\xff no</Message></Error>")
    _, headers, body = ask(app, HTTP_AUTHORIZATION=signed("s3"), HTTP_X_AMZ_TARGET="")
    assert body == "<Error><Message>?\ufffd no</Message></Error>".encode()
    assert headers["Content-Length"] == str(len(body))
    assert ask(says("200 OK", b"<a>\0</a>"))[2] == b"<a>\0</a>"


def test_an_error_without_a_word_gets_one_but_not_for_head() -> None:
    assert json.loads(ask(says("404 NOT FOUND"))[2])["__type"] == "UnknownOperationException"
    given, _, body = ask(says("404 NOT FOUND"), method="HEAD")
    assert (given, body) == ("404 NOT FOUND", b"")


def test_an_exception_is_an_error_and_its_traceback_is_for_the_log_alone() -> None:
    def app(*_: Any) -> Any:
        raise KeyError("a bug\nof moto's")

    given, headers, body = ask(app)
    assert given.startswith("400")  # no service of moto's had the call
    assert b"Traceback" not in body
    assert "KeyError" in json.loads(body)["message"]
    told = faults.decoded(headers[faults.TRACEBACK])
    assert told.startswith("Traceback (most recent call last)")
    assert "a bug" in told
