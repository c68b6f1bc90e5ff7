"""A runtime client in plain Python, for where AWS's has no wheel (macOS).

The same calls, events, context, errors and log lines. It lacks the JSON log format, ``Decimal`` in
responses and SnapStart hooks.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import transport
from twolane_local.aws.lambda_.inprocess import Context, error_object, load_error

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[Any, Context], Any]

_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"


def run(handler: str) -> None:
    """Serve invocations for ever; exits where the handler does not load."""
    request = set_up_logging()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        function = _load(handler)
    except Exception as error:  # noqa: BLE001 (told to the Runtime API)
        body = load_error(handler, error)
        print(f"[ERROR] {body.decode()}", flush=True)  # noqa: T201 (the function's log)
        transport.post_init_error(body)
        sys.exit(1)
    while True:
        event, headers = transport.next()
        request.identifier = headers["Lambda-Runtime-Aws-Request-Id"]
        os.environ["_X_AMZN_TRACE_ID"] = headers.get("Lambda-Runtime-Trace-Id", "")
        serve(function, event, headers)


def _load(handler: str) -> Handler:
    module, _, name = handler.rpartition(".")
    function: Handler = getattr(importlib.import_module(module.replace("/", ".")), name)
    return function


def serve(function: Handler, event: bytes, headers: dict[str, Any]) -> None:
    """One invocation, from its event to what is posted of it."""
    identifier = headers["Lambda-Runtime-Aws-Request-Id"]
    left_s = headers["Lambda-Runtime-Deadline-Ms"] / 1000 - time.time()
    context = Context(
        aws_request_id=identifier,
        function_name=os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        invoked_function_arn=headers["Lambda-Runtime-Invoked-Function-Arn"],
        memory_limit_in_mb=os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        deadline=time.monotonic() + left_s,
        log_group_name=os.environ["AWS_LAMBDA_LOG_GROUP_NAME"],
        log_stream_name=os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
    )
    try:
        result = json.dumps(function(json.loads(event), context), ensure_ascii=False)
    except Exception as error:  # noqa: BLE001 (a function's own error is a result)
        trace = error.__traceback__
        own = error.with_traceback(trace.tb_next if trace else None)  # without this frame
        body = error_object(own, identifier).decode()
        print(f"[ERROR] {body}", flush=True)  # noqa: T201 (the function's log)
        transport.post_error(identifier, body, "")
    else:
        transport.post_invocation_result(identifier, result.encode(), "application/json")


class _Request(logging.Filter):
    """Gives each log record the id of the request that it is of."""

    identifier = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.identifier
        return True


@cache
def set_up_logging() -> _Request:
    """https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html"""
    request = _Request()
    output = logging.StreamHandler(sys.stdout)
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    output.setFormatter(formatter)
    output.addFilter(request)
    root = logging.getLogger()
    root.addHandler(output)
    if level := os.environ.get("AWS_LAMBDA_LOG_LEVEL"):
        root.setLevel("DEBUG" if level == "TRACE" else level)
    return request
