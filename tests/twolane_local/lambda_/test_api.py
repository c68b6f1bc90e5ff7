"""https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html, with literal calls and answers."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.invocation import Invocation, RecursiveInvocationError, ThrottledError
from twolane_local.aws.lambda_.api import LambdaApi
from twolane_local.model import FunctionSpec


class Function:
    def __init__(self):
        self.calls = []

    async def invoke(
        self, function, event, *, request_id=None, client_context="", trace_headers=()
    ):
        self.calls.append((function, event))
        self.context = client_context
        self.more = {"trace_headers": trace_headers}
        if function == "busy":
            raise ThrottledError
        if function == "loops":
            raise RecursiveInvocationError(function, frozenset(trace_headers))
        if function == "broken":
            payload = b'{"errorMessage": "no", "errorType": "ValueError", "stackTrace": []}'
            return Invocation(request_id, payload, "Unhandled", lambda: b"Traceback\n")
        return Invocation(request_id, b'{"ok": true}', None, lambda: b"x" * 5000 + b"END")


class Asynchronous:
    def __init__(self):
        self.submitted = []

    def submit(self, function, payload, *, client_context="", trace_header=""):
        self.context, self.trace = client_context, trace_header
        self.submitted.append((function, payload))
        return "async-id"


@pytest.fixture
def function():
    return Function()


@pytest.fixture
def asynchronous():
    return Asynchronous()


@pytest.fixture
def invoke(function, asynchronous):
    names = ("f", "busy", "broken", "loops")
    functions = {
        name: FunctionSpec(name, name, "app.handler", Path(), qualifiers=("1", "live"))
        for name in names
    }
    api = LambdaApi(function, functions, asynchronous)

    def invoke(name, body=b'{"n":1}', query="", **headers):
        path = f"/2015-03-31/functions/{name}/invocations"
        assert api.answers("POST", path)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = AwsRequest("POST", path, query, named, body, "lambda", request_id="rid")
        return asyncio.run(api(request))

    return invoke


def test_request_response(invoke, function):
    response = invoke("f")
    assert function.calls == [("f", b'{"n":1}')]
    assert (response.status, response.body) == (200, b'{"ok": true}')
    assert response.headers == {
        "content-type": "application/json",
        "x-amz-executed-version": "$LATEST",
        "x-amzn-requestid": "rid",
    }


def test_an_empty_payload_is_an_empty_object(invoke, function):
    invoke("f", b"")
    assert function.calls == [("f", b"{}")]


def test_the_tail_of_the_log_is_its_last_four_kilobytes(invoke):
    response = invoke("f", x_amz_log_type="Tail")
    tail = base64.b64decode(response.headers["x-amz-log-result"])
    assert tail == b"x" * 4093 + b"END"
    assert "x-amz-log-result" not in invoke("f", x_amz_log_type="None").headers


def test_a_function_error_is_a_200_with_a_header(invoke):
    response = invoke("broken")
    assert response.status == 200
    assert response.headers["x-amz-function-error"] == "Unhandled"
    assert json.loads(response.body)["errorType"] == "ValueError"


TRACE = "Root=1-5;Sampled=0;Lineage=00000000:3|11111111:4"


def test_the_trace_header_of_a_call_leads_to_the_invocation(invoke, function, asynchronous):
    invoke("f")
    assert function.more == {"trace_headers": ()}
    # Encoded as by botocore.
    invoke("f", x_amzn_trace_id=TRACE.replace("|", "%7C"))
    assert function.more == {"trace_headers": (TRACE,)}
    invoke("f", x_amz_invocation_type="Event", x_amzn_trace_id=TRACE)
    assert asynchronous.trace == TRACE


def test_a_recursive_loop_is_refused(invoke):
    response = invoke("loops", x_amzn_trace_id=TRACE)
    assert response.status == 400
    assert response.headers["x-amzn-errortype"] == "RecursiveInvocationException"
    assert "recursive loop" in json.loads(response.body)["message"]


def test_an_event_is_accepted(invoke, asynchronous, function):
    response = invoke("f", x_amz_invocation_type="Event")
    assert (response.status, response.body) == (202, b"")
    assert response.headers["x-amzn-requestid"] == "async-id"
    assert (asynchronous.submitted, function.calls) == ([("f", b'{"n":1}')], [])


def test_a_dry_run_runs_nothing(invoke, function):
    response = invoke("f", x_amz_invocation_type="DryRun")
    assert (response.status, response.body, function.calls) == (204, b"", [])


@pytest.mark.parametrize(
    "name",
    [
        "f",
        "f:$LATEST",
        "f:live",
        "f:1",
        "123456789012:function:f",
        "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af",
        "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
        "arn:aws:lambda:us-east-1:123456789012:function:f:live",
    ],
)
def test_the_forms_of_a_functions_name(invoke, name):
    assert invoke(name).status == 200


def refused(response):
    return response.status, response.headers["x-amzn-errortype"], json.loads(response.body)


def test_errors_before_the_function_is_reached(invoke):
    assert refused(invoke("nowhere")) == (
        404,
        "ResourceNotFoundException",
        {
            "Type": "User",
            "Message": "Function not found: arn:aws:lambda:us-east-1:123456789012:function:nowhere",
        },
    )
    status, kind, body = refused(invoke("f", query="Qualifier=prod"))
    assert (status, kind) == (404, "ResourceNotFoundException")
    assert body["Message"].endswith("function:f:prod")
    assert refused(invoke("f", b"{not json"))[:2] == (400, "InvalidRequestContentException")
    assert refused(invoke("f", b"\xff"))[:2] == (400, "InvalidRequestContentException")
    deep = b"[" * 200_000
    assert refused(invoke("f", deep))[:2] == (400, "InvalidRequestContentException")
    assert refused(invoke("a%20b"))[:2] == (400, "ValidationException")
    assert refused(invoke("f", x_amz_invocation_type="Later"))[:2] == (
        400, "InvalidParameterValueException",
    )  # fmt: skip


def test_the_callers_context_reaches_the_function(invoke, function, asynchronous):
    context = base64.b64encode(b'{"custom":{"a":"b"}}').decode()
    invoke("f", x_amz_client_context=context)
    assert function.context == '{"custom":{"a":"b"}}'
    invoke("f", x_amz_client_context=context, x_amz_invocation_type="Event")
    assert asynchronous.context == '{"custom":{"a":"b"}}'
    too_long = base64.b64encode(json.dumps({"a": "b" * 3_000}).encode()).decode()
    for wrong in ("%%", "e30", base64.b64encode(b"[]").decode(), too_long):
        assert refused(invoke("f", x_amz_client_context=wrong))[:2] == (
            400, "InvalidRequestContentException",
        )  # fmt: skip


def test_a_throttle_is_a_429(invoke):
    assert refused(invoke("busy")) == (
        429,
        "TooManyRequestsException",
        {
            "Type": "User",
            "message": "Rate Exceeded.",
            "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        },
    )


def test_payloads_have_limits(invoke, asynchronous):
    fits, too_long = b'"' + b"x" * 6_291_454 + b'"', b'"' + b"x" * 6_291_455 + b'"'
    assert invoke("f", fits).status == 200
    assert refused(invoke("f", too_long))[:2] == (413, "RequestTooLargeException")
    event = b'"' + b"x" * 1_048_575 + b'"'
    assert refused(invoke("f", event, x_amz_invocation_type="Event"))[:2] == (
        413, "RequestTooLargeException",
    )  # fmt: skip
    assert asynchronous.submitted == []


def test_other_calls_are_not_ours():
    api = LambdaApi(Function(), {}, Asynchronous())
    assert not api.answers("GET", "/2015-03-31/functions/f")
    assert not api.answers("GET", "/2015-03-31/functions/f/invocations")
