from __future__ import annotations

import io
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from twolane.environment import logs
from twolane.environment.logs import JsonFormatter, configure, correlation, emit

if TYPE_CHECKING:
    from collections.abc import Iterator

LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "shop-api"}


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger without handlers, not even pytest's; put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield root
    finally:
        root.handlers = handlers
        root.setLevel(level)
        logging.getLogger("botocore").setLevel(logging.NOTSET)


@pytest.fixture
def lines() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("twolane.test_logs")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def last(stream: io.StringIO) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
    return parsed


def test_an_event_is_one_line_of_json_with_what_is_known(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = lines
    token = correlation.set({"requestId": "r-1", "taskId": "t-1"})
    try:
        emit(logger, "task.started", "→ shop.add started", attempt=1, queue=b"odd")
    finally:
        correlation.reset(token)
    line = last(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "twolane.test_logs",
        "message": "→ shop.add started",
        "requestId": "r-1",
        "taskId": "t-1",
        "event": "task.started",
        "attempt": 1,
        "queue": "b'odd'",
    }


def test_a_line_of_the_application_has_the_same_form(
    lines: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = lines
    logger.info("Sending notification to %s\nnow", "user@example.com")
    assert last(stream)["message"] == "Sending notification to user@example.com\nnow"
    assert stream.getvalue().count("\n") == 1


def test_an_error_keeps_its_class_and_trace(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = lines
    error = ValueError("no such address")
    emit(logger, "inline.failed", "It failed", level=logging.ERROR, exc_info=error)
    assert last(stream)["errorType"] == "ValueError"
    assert "no such address" in last(stream)["stackTrace"]


def test_in_a_function_an_event_is_a_metric_too(
    lines: tuple[logging.Logger, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop-api")
    logger, stream = lines
    emit(logger, "inline.succeeded", "done", taskName="app.send", durationMs=3)
    assert last(stream)["InlineDuration"] == 3
    assert last(stream)["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "twolane"


def test_what_is_not_logged_costs_nothing(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = lines
    logger.setLevel(logging.WARNING)
    emit(logger, "task.started", "x")
    assert stream.getvalue() == ""


def test_outside_of_a_function_logging_stays_the_applications() -> None:
    with bare_root() as root:
        configure({})
        assert root.handlers == []


def test_in_a_function_every_line_is_json_and_the_start_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(logs.sys, "stdout", stream)
    with bare_root():
        configure(LAMBDA)
        configure(LAMBDA)
        logging.getLogger("shop").info("hello")
    start, hello = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (start["event"], start["initialization"]) == ("environment.cold", "on-demand")
    assert (hello["message"], hello["logger"]) == ("hello", "shop")


def test_lambdas_own_handler_stays_and_gets_its_line_ends() -> None:
    """awslambdaric's handler writes what the formatter gives, and no more."""

    class LambdaLoggerHandler(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.written = ""

        def emit(self, record: logging.LogRecord) -> None:
            self.written += self.format(record)

    handler = LambdaLoggerHandler()
    with bare_root() as root:
        root.addHandler(handler)
        configure({**LAMBDA, "AWS_LAMBDA_LOG_LEVEL": "WARNING"})
        logging.getLogger("shop").warning("one")
        logging.getLogger("shop").info("not this")
        logging.getLogger("shop").warning("two")
        assert root.handlers == [handler]
    assert [json.loads(line)["message"] for line in handler.written.splitlines()] == ["one", "two"]


@pytest.mark.parametrize(("given", "level"), [("TRACE", logging.DEBUG), ("FATAL", logging.FATAL)])
def test_lambdas_own_levels_are_levels_of_logging(given: str, level: int) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html"""
    with bare_root() as root:
        configure({**LAMBDA, "AWS_LAMBDA_LOG_LEVEL": given})
        assert root.level == level


def test_a_lone_surrogate_is_escaped_as_json_escapes_it() -> None:
    """Lambda's own handler encodes the line, and raises into the caller what that raises."""
    raw = io.BytesIO()
    handler = logging.StreamHandler(io.TextIOWrapper(raw, "utf-8", write_through=True))
    handler.setFormatter(JsonFormatter())
    record = logging.LogRecord("t", logging.INFO, "f", 1, "a\ud800 é", (), None)
    line = handler.format(record)
    assert json.loads(line.encode())["message"] == "a\ud800 é"
    assert "é" in line


@pytest.mark.parametrize("kind", ["deep", "deep argument", "circle"])
def test_no_value_keeps_a_line_from_being_written(kind: str) -> None:
    value: Any = []
    if kind == "circle":
        value.append(value)
    else:
        for _ in range(100_000):
            value = [value]
    fields = {"event": "task.started", "taskName": value}
    message, args = ("told %r", (value,)) if kind == "deep argument" else ("told", ())
    record = logging.LogRecord("t", logging.INFO, "f", 1, message, args, None)
    vars(record)["twolane"] = fields
    line = json.loads(JsonFormatter().format(record))
    assert line["message"].startswith("told")
    assert line["event"] == "task.started"
    assert isinstance(line["taskName"], str)
