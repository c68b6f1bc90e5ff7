"""Moto on what stands in for Flask answers as it does on Flask; its API Gateway still validates."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

#: Requests in their order, each with its method, path, headers and body.
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{}/aws4_request, Signature=x"
JSON = "application/x-amz-json-1.0"
FORM = "application/x-www-form-urlencoded"
ORIGIN = "http://localhost:8000"


def signed(service: str, **more: str) -> dict[str, str]:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return {"Authorization": SIGNED.format(service), **headers}


def dynamodb(operation: str, **body: Any) -> tuple[str, str, dict[str, str], str]:
    target = f"DynamoDB_20120810.{operation}"
    headers = signed("dynamodb", X_Amz_Target=target, Content_Type=JSON)
    return ("POST", "/", headers, json.dumps(body))


PREFLIGHT = {
    "Origin": ORIGIN, "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type, x-amz-acl",
}  # fmt: skip
REQUESTS: list[tuple[str, str, dict[str, str], str]] = [
    ("PUT", "/shelf", signed("s3"), ""),
    ("PUT", "/shelf/a%20b/%C3%A9?x-id=PutObject", signed("s3", x_amz_meta_tea="1"), "Hello"),
    ("GET", "/shelf/a%20b/%C3%A9", signed("s3"), ""),
    ("GET", "/shelf/a%20b/%C3%A9", signed("s3", Range="bytes=1-3"), ""),
    ("GET", "/shelf/a%20b/%C3%A9", signed("s3", Range="bytes=9-12"), ""),
    ("HEAD", "/shelf/a%20b/%C3%A9", signed("s3"), ""),
    ("HEAD", "/shelf/nothing", signed("s3"), ""),
    ("GET", "/shelf/nothing", signed("s3"), ""),
    ("GET", "/shelf?list-type=2&prefix=a", signed("s3"), ""),
    ("GET", "/shelf/", signed("s3"), ""),
    ("GET", "//shelf//a", signed("s3"), ""),
    ("GET", "/shelf/a%20b/%C3%A9", {"Origin": ORIGIN, **signed("s3")}, ""),
    ("OPTIONS", "/shelf/a", PREFLIGHT, ""),
    ("OPTIONS", "/shelf/a", {**PREFLIGHT, "Access-Control-Request-Method": "LINK"}, ""),
    ("PUT", "/shelf?cors", signed("s3"),
     ("<CORSConfiguration><CORSRule><AllowedOrigin>http://localhost:8000</AllowedOrigin>"
     "<AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>")),
    ("OPTIONS", "/shelf/a", PREFLIGHT, ""),
    ("DELETE", "/shelf/a%20b/%C3%A9", signed("s3"), ""),
    dynamodb("ListTables"),
    dynamodb("GetItem", TableName="t", Key={"id": {"S": "1"}}),
    dynamodb("Nothing"),
    ("POST", "/", signed("sns", Content_Type=FORM), "Action=CreateTopic&Name=t&Version=2010-03-31"),
    ("POST", "/", signed("sns", Content_Type=FORM), "Action=Publish&TopicArn=no&Message=m"),
    ("POST", "/v2/email/identities", signed("ses", Content_Type="application/json"),
     '{"EmailIdentity": "a@example.com"}'),
    ("GET", "/v2/email/nothing", signed("ses"), ""),
    ("LINK", "/v2/email/identities", signed("ses"), ""),
    ("GET", "/", signed("nothing"), ""),
]  # fmt: skip

PROGRAM = """
import json, sys
from twolane_local.aws.moto import imports
stand_in, requests = json.load(sys.stdin)
if stand_in:
    imports.without_flask()
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.moto_api._internal import mock_random
from werkzeug.test import Client
mock_random.seed(1)
client = Client(DomainDispatcherApplication(create_backend_app))
answers = []
for method, path, headers, body in requests:
    try:
        answer = client.open(path, method=method, headers=headers, data=body)
        answers.append([answer.status_code, sorted(answer.headers.items()), answer.get_data(True)])
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps({"flask": "flask.app" in sys.modules, "answers": answers}))
"""
MOMENT = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT|[0-9a-f-]{36}|\b[A-Z0-9]{52}\b"
)


@functools.cache
def answers(stand_in: bool) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], input=json.dumps([stand_in, REQUESTS]),
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    said = json.loads(MOMENT.sub("…", done.stdout.splitlines()[-1]))
    assert said["flask"] is not stand_in
    return said["answers"]


@pytest.mark.parametrize("number", range(len(REQUESTS)), ids=lambda n: " ".join(REQUESTS[n][:2]))
def test_each_answer_is_that_of_moto_on_flask(number: int) -> None:
    assert answers(stand_in=True)[number] == answers(stand_in=False)[number]


def test_the_requests_are_answered_in_many_ways() -> None:
    assert {each[0] for each in answers(stand_in=True)} >= {200, 206, 400, 404, 405, 416}


def test_moto_imports_no_more_of_flask_and_the_validator() -> None:
    spec = find_spec("moto")
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, set[str]] = {}
    for path in Path(spec.origin).parent.rglob("*.py"):
        text = path.read_text()
        if not re.search(r"(import|from) (flask|openapi_spec)", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = {alias.name for alias in node.names}
                found.setdefault(node.module, set()).update(names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found.setdefault(alias.name, set())
    of_others = {
        name: names
        for name, names in found.items()
        if name.partition(".")[0] in {"flask", "flask_cors", "openapi_spec_validator"}
    }
    assert of_others == {
        # The last is for the page of moto's own, which the emulator does not show.
        "flask": {"Flask", "Request", "Response", "request", "render_template"},
        "flask.testing": {"FlaskClient"},
        "flask_cors": {"CORS"},
        "openapi_spec_validator": {"validate", "validate_spec"},
        "openapi_spec_validator.validation.exceptions": {"OpenAPIValidationError"},
    }


VALIDATES = """
import sys
from twolane_local.aws.moto import imports
with imports.without_validator():
    from moto.apigateway.models import apigateway_backends
    from moto.apigateway.exceptions import InvalidOpenAPIDocumentException
assert "openapi_spec_validator" not in sys.modules
if sys.argv[1:]:
    sys.modules["openapi_spec_validator"] = None  # as if it were not installed
backend = apigateway_backends["123456789012"]["us-east-1"]
document = {"openapi": "3.0.0",
  "info": {"title": "t", "version": "1", "description": ""}, "paths": {}}
backend.import_rest_api(document, fail_on_warnings=False)
backend.import_rest_api(document, fail_on_warnings=True)
try:
    backend.import_rest_api({**document, "paths": 1}, fail_on_warnings=True)
except InvalidOpenAPIDocumentException as error:
    print("refused:", error)
"""


def test_a_document_is_validated_once_moto_is_asked_to() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", VALIDATES],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "refused:" in done.stdout
    assert "paths" in done.stdout or "1 is not of type" in done.stdout


def test_without_the_validator_moto_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", VALIDATES, "without"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of openapi_spec_validator halted" in done.stderr


LACKS = """
import sys
from twolane_local.aws.moto import imports
from twolane_local.aws.moto.faults import ServiceErrors
imports.without_flask()
sys.modules["aws_xray_sdk"] = None  # not installed
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client
client = Client(ServiceErrors(DomainDispatcherApplication(create_backend_app)))
answer = client.open("/TraceSummaries", method="POST", headers={"Authorization": sys.argv[1]})
print(answer.status_code, answer.get_data(True))
"""


def test_a_service_of_moto_s_that_needs_more_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LACKS, SIGNED.format("xray")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("501 ")
    assert "moto needs the package aws_xray_sdk, which is not installed here" in done.stdout
    assert "pip install 'moto[xray]'" in done.stdout
