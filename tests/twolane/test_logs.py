from __future__ import annotations

import io
import json
import logging
import logging.config
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from twolane.environment import logs
from twolane.environment.logs import JsonFormatter, configure, correlation, emit
from twolane_local.aws.lambda_ import framed_log

if TYPE_CHECKING:
    from collections.abc import Iterator

LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "shop-api"}


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger without handlers, not even pytest's; put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    root.setLevel(logging.WARNING)  # Python's default
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
    assert len(line.pop("eventId")) == 16
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

    handler = LambdaLoggerHandler()
    with bare_root() as root:
        root.addHandler(handler)
        root.setLevel("WARNING")  # as the client does
        configure({**LAMBDA, "AWS_LAMBDA_LOG_LEVEL": "WARNING"})
        logging.getLogger("shop").warning("one")
        logging.getLogger("shop").info("not this")
        logging.getLogger("shop").warning("two")
        assert root.handlers == [handler]
    assert [line["message"] for line in handler.lines()] == ["one", "two"]


class LambdaLoggerHandler(logging.Handler):
    """awslambdaric's, with its format."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n",
                "%Y-%m-%dT%H:%M:%S",
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in "".join(self.written).splitlines()]


@pytest.fixture
def lambdas() -> Iterator[LambdaLoggerHandler]:
    """Lambda's handler, on the root logger."""
    handler = LambdaLoggerHandler()
    loggers = [each for each in logging.root.manager.loggerDict.values()
               if isinstance(each, logging.Logger)]  # fmt: skip
    were = [(each, each.disabled) for each in loggers]
    with bare_root() as root:
        root.addHandler(handler)
        yield handler
    for each, disabled in were:
        each.disabled = disabled


def configured(stream: io.StringIO, **more: Any) -> None:
    """What an application does that logs in its own way."""
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"own": {"format": "OWN %(message)s"}},
            "handlers": {
                "own": {"class": "logging.StreamHandler", "formatter": "own", "stream": stream}
            },
            "root": {"handlers": ["own"], "level": "WARNING"},
            **more,
        }
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_applications_handlers_formats_and_levels_stay(
    lambdas: LambdaLoggerHandler, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, out = io.StringIO(), io.StringIO()
    monkeypatch.setattr(logs.sys, "stdout", out)
    runtime = logging.getLogger("twolane.test_logs")
    if when == "before":
        configured(own)
        configure(LAMBDA)
    else:
        configure(LAMBDA)
        configured(own)
    shop = logging.getLogger(f"shop.{when}")
    shop.warning("said")
    shop.info("too quiet")
    assert runtime.disabled, "in passing"
    emit(runtime, "task.started", "→ started")
    assert own.getvalue() == "OWN said\n"
    written = "".join(lambdas.written) + out.getvalue()
    events = [json.loads(line)["event"] for line in written.splitlines()]
    assert events == ["environment.cold", "task.started"]


def test_an_event_is_one_line_however_many_handlers_the_root_has(
    lambdas: LambdaLoggerHandler,
) -> None:
    other = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(other))
    configure(LAMBDA)
    emit(logging.getLogger("twolane.worker"), "task.started", "→ started")
    assert [line.get("event") for line in lambdas.lines()] == ["environment.cold", "task.started"]
    assert other.getvalue() == ""


def test_lambdas_handler_with_the_applications_own_formatter_keeps_it(
    lambdas: LambdaLoggerHandler,
) -> None:
    lambdas.setFormatter(logging.Formatter("OWN %(message)s\n"))
    configure(LAMBDA)
    logging.getLogger("shop").warning("said")
    assert lambdas.written[-1] == "OWN said\n"


def test_a_level_of_the_runtimes_own_loggers_is_kept(lambdas: LambdaLoggerHandler) -> None:
    configure(LAMBDA)
    logger = logging.getLogger("twolane.worker")
    logger.setLevel(logging.WARNING)
    try:
        emit(logger, "task.started", "→ started")
    finally:
        logger.setLevel(logging.NOTSET)
    assert [line["event"] for line in lambdas.lines()] == ["environment.cold"]


def test_extra_fields_are_in_the_line_but_celerys_arguments_are_not(
    lambdas: LambdaLoggerHandler,
) -> None:
    configure(LAMBDA)
    logging.getLogger("shop").warning("said", extra={"order": 7, "data": "d", "level": "x"})
    logging.getLogger("celery.app.trace").warning("said", extra={"data": {"args": "secret"}})
    own, celerys = lambdas.lines()[-2:]
    assert (own["order"], own["data"], own["level"]) == (7, "d", "WARNING")
    assert "data" not in celerys


@pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
def test_a_channel_gets_each_event_and_the_log_what_its_level_lets_pass(
    lambdas: LambdaLoggerHandler, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    taken: list[tuple[str, bool]] = []

    def take(line: str, logged: str | None) -> bool:
        assert logged in {None, line}
        taken.append((json.loads(line)["event"], logged is not None))
        return True

    channel: Any = ModuleType(logs.CHANNEL)
    channel.event = take
    configure(LAMBDA)
    monkeypatch.setitem(sys.modules, logs.CHANNEL, channel)
    emit(logging.getLogger("twolane.worker"), "task.started", "→ started", level=logging.DEBUG)
    logging.getLogger("twolane").setLevel(level)
    emit(logging.getLogger("twolane.worker"), "task.started", "→ started")
    assert taken == [("task.started", False), ("task.started", level == logging.DEBUG)]
    assert [line["event"] for line in lambdas.lines()] == ["environment.cold"], "it writes itself"


def test_what_a_channel_does_not_take_is_a_line_as_on_lambda(
    lambdas: LambdaLoggerHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel: Any = ModuleType(logs.CHANNEL)
    channel.event = lambda line, logged: False
    configure(LAMBDA)
    monkeypatch.setitem(sys.modules, logs.CHANNEL, channel)
    emit(logging.getLogger("twolane.worker"), "task.started", "→ started")
    assert lambdas.lines()[-1]["event"] == "task.started"


def test_what_the_log_has_in_another_line_is_for_the_channel_alone(
    lambdas: LambdaLoggerHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def take(line: str, logged: str | None) -> bool:
        taken.append((json.loads(line), json.loads(logged or "null")))
        return True

    channel: Any = ModuleType(logs.CHANNEL)
    channel.event = take
    configure(LAMBDA)
    monkeypatch.setitem(sys.modules, logs.CHANNEL, channel)
    logger = logging.getLogger("twolane.worker")
    emit(logger, "task.failed", "! failed", unlogged={"stackTrace": "Traceback …"})
    ((event, line),) = taken
    assert event.pop("stackTrace") == "Traceback …"
    assert line == event, "with the same id, so that it counts once"


def test_the_emulator_knows_the_channels_name() -> None:
    assert framed_log.CHANNEL == logs.CHANNEL


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
