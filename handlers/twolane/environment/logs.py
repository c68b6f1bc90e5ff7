"""Structured log lines: one JSON object a line, which a person, CloudWatch and the emulator read.

Every step of the runtime that matters is an *event* (``task.started``, ``inline.failed`` …) with
fields beside it. ``emit`` is the only way that the runtime writes one. The line's shape::

    {"timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "logger": "twolane.worker",
     "message": "…", "event": "task.started", "requestId": "…", "taskId": "…", …}

Field names are camelCase, as in AWS's own JSON log format:
https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html

In an execution environment the logger ``twolane`` has a handler of its own and does not propagate,
as uvicorn's has: whatever an application makes of the root logger, each event is one line, in this
form. ``eventId`` is unique, so that a line that is written twice is counted once. The host of the
environment may take events by a channel of its own, whatever their level: see ``CHANNEL``.

An event is also a metric. CloudWatch makes metrics of any JSON line that names the members that are
metrics (the embedded metric format). The runtime's events already hold counts and durations, so a
metric costs no call, no agent and no line of its own:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

Each metric comes twice: for the function, and for the function and task. CloudWatch asks for each
by the month, so that tasks of many names cost: ``TWOLANE_METRICS_PER_TASK=false`` leaves the second
out. https://aws.amazon.com/cloudwatch/pricing/ The namespace is ``twolane``;
``TWOLANE_METRICS_NAMESPACE`` names another, or none if it is empty.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The members of every line of the current invocation: requestId, traceId, taskId.
correlation: ContextVar[dict[str, str] | None] = ContextVar("twolane_correlation", default=None)


#: A module of this name with ``event(line, logged) -> bool`` takes each event, also one whose level
#: keeps it out of the log; ``logged`` is the line that it writes to the log then, or ``None``. It
#: returns ``False`` for what it does not take. The emulator has one; on Lambda there is none.
CHANNEL = "_twolane_events"


def wanted(logger: logging.Logger, level: int = logging.INFO) -> bool:
    """Return whether an event would be written, for a caller that has work to make its fields."""
    return CHANNEL in sys.modules or _is_logged(logger, level)


def _is_logged(logger: logging.Logger, level: int) -> bool:
    if not logger.disabled:
        return logger.isEnabledFor(level)
    # `disable_existing_loggers`, the default of `dictConfig`, disables these loggers in passing. A
    # level of theirs is meant.
    return level >= logger.getEffectiveLevel() and logger.manager.disable < level


def emit(
    logger: logging.Logger,
    event: str,
    message: str,
    *,
    level: int = logging.INFO,
    exc_info: BaseException | None = None,
    unlogged: Mapping[str, Any] | None = None,
    **fields: Any,
) -> None:
    """Write one event; ``fields`` must be JSON values and hold no secret. Those that are
    ``unlogged`` are for the channel alone: the log has them in another line.
    """
    logged = _is_logged(logger, level)
    channel: Any = sys.modules.get(CHANNEL)
    if not logged and channel is None:
        return
    # As ``logger.log`` does, which looks through all frames for the one that is its caller.
    caller = sys._getframe(1)  # noqa: SLF001 - as the standard library's logging
    error = (type(exc_info), exc_info, exc_info.__traceback__) if exc_info is not None else None
    told = {"event": event, "eventId": os.urandom(8).hex(), **fields}
    record = logger.makeRecord(
        logger.name, level, caller.f_code.co_filename, caller.f_lineno, message, (), error,
        caller.f_code.co_name, {"twolane": told},
    )  # fmt: skip
    logged = logged and bool(logger.filter(record))
    if channel is not None:
        line = whole = _formatter.format(record)
        if unlogged:
            vars(record)["twolane"] = {**told, **unlogged}
            whole = _formatter.format(record)
            vars(record)["twolane"] = told
        vars(record)[_TAKEN] = channel.event(whole, line if logged else None)
    if logged:
        logger.callHandlers(record)


#: The attribute of a record that the channel has taken.
_TAKEN = "_twolane_taken"


class _Own(logging.Handler):
    """Writes the lines of twolane's own loggers by another handler, which the application lacks."""

    def __init__(self, other: logging.Handler) -> None:
        super().__init__()
        self._other = other

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, _TAKEN, False):
            self._other.handle(record)


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON; other values by their ``repr``. ``end`` is for a handler that
    does not end a line by itself.
    """

    def __init__(self, end: str = "") -> None:
        super().__init__()
        self._end = end

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "timestamp": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **(correlation.get() or {}),
            **getattr(record, "twolane", {}),
        }
        if not hasattr(record, "twolane"):
            line |= {name: value for name, value in _extra(record) if name not in line}
        if record.exc_info and record.exc_info[0] is not None:
            line["errorType"] = record.exc_info[0].__name__
            line["stackTrace"] = self.formatException(record.exc_info)
        line |= embedded(line, os.environ, now_ms=int(record.created * 1000))
        return _encoded(line) + self._end


#: What a record has of its own; runtime clients and formatters add the last ones.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "twolane", "aws_request_id", "tenant_id", "_frame_type",
}  # fmt: skip


def _extra(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Yield the application's ``extra={…}``, which Lambda's own JSON log shows too."""
    # Celery's ``data`` has a task's arguments, which may be secret.
    hidden = {"data"} if record.name.startswith("celery.") else set()
    for name, value in vars(record).items():
        if name not in _STANDARD and name not in hidden and not name.startswith("_"):
            yield name, value


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - Lambda's own handler would raise it where it is logged
        return str(record.msg)


def _encoded(line: dict[str, Any]) -> str:
    try:
        text = json.dumps(line, default=repr, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        # A value that is not JSON, or nested too deep; each member is shown by itself.
        text = json.dumps({str(key): _plain(value) for key, value in line.items()})
    # A lone surrogate, which a message may hold, has no UTF-8; written so, it is JSON's own escape.
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        return repr(value)[:1000]
    except Exception:  # noqa: BLE001 - a log line is never lost for a value in it
        return f"<{type(value).__name__}>"


_formatter = JsonFormatter()


def configure(environ: dict[str, str] | None = None) -> None:
    """Give Lambda's own log handler our formatter, in an execution environment only; and twolane's
    loggers a handler of their own. Handlers, formats and levels that the application has set stay.
    Idempotent.
    """
    env = os.environ if environ is None else environ
    if "AWS_LAMBDA_FUNCTION_NAME" not in env:
        return
    root, level = logging.getLogger(), env.get("AWS_LAMBDA_LOG_LEVEL", "")
    if not root.handlers and not any(name in sys.modules for name in _CLIENTS):
        # No runtime client is there that would have done it.
        root.addHandler(logging.StreamHandler(sys.stdout))
        root.handlers[0].setFormatter(logging.Formatter(_TEXT))
        if level:
            set_level(root, level)
    lambdas = [handler for handler in root.handlers if _is_lambdas(handler)]
    for handler in lambdas:
        if not isinstance(handler.formatter, JsonFormatter):
            # awslambdaric's handler writes what the formatter gives, and no more.
            ends_lines = isinstance(handler, logging.StreamHandler)
            handler.setFormatter(JsonFormatter("" if ends_lines else "\n"))
    if lambdas and not level and root.level == logging.WARNING:  # Python's default
        root.setLevel(logging.INFO)
    # botocore logs at INFO where it found credentials and endpoints, at every cold start.
    botocore = logging.getLogger("botocore")
    if botocore.level == logging.NOTSET:
        botocore.setLevel(max(root.level, logging.WARNING))
    own = logging.getLogger("twolane")
    if not any(isinstance(handler, _Own) for handler in own.handlers):
        own.addHandler(_Own(_copy_of(lambdas[0]) if lambdas else _to_stdout()))
        own.propagate = False
        if own.level == logging.NOTSET:
            set_level(own, level or "INFO")
        kind = env.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        message = f"Execution environment starts ({kind})"
        emit(own, "environment.cold", message, initialization=kind)


#: The modules of runtime clients, whose handler the application may have taken away.
_CLIENTS = ("awslambdaric.bootstrap", "twolane_local.aws.lambda_.plain_client")
#: How the format of Lambda's own text log begins, and that format where no client is.
_TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t"


def set_level(logger: logging.Logger, level: str) -> None:
    """Set a level of Lambda's, of which one is not one of logging's."""
    logger.setLevel("DEBUG" if level == "TRACE" else level)


def _is_lambdas(handler: logging.Handler) -> bool:
    """Return whether it is Lambda's own handler, with a formatter that is Lambda's or ours."""
    formatter = handler.formatter
    return (
        isinstance(formatter, JsonFormatter)
        or type(formatter).__module__.startswith("awslambdaric.")
        or str(getattr(formatter, "_fmt", "")).startswith(_TEXT)
    )


def _copy_of(handler: logging.Handler) -> logging.Handler:
    """Return a handler that writes to the same place, whatever becomes of the first one."""
    copied = copy.copy(handler)
    copied.filters = []
    copied.setLevel(logging.NOTSET)
    return copied


def _to_stdout() -> logging.Handler:
    """Return a handler for Lambda's other way into the log, where its own handler is gone."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    return handler


#: redis-py loads the part of OpenTelemetry's SDK for metrics by itself.
_MONITORS = ("sentry_sdk", "opentelemetry.sdk.trace")


def flush(left_s: float | None) -> None:
    """At the end of an invocation: send what monitors hold, if one is here; see ``telemetry``."""
    if any(name in sys.modules for name in _MONITORS):
        from twolane.environment import telemetry

        telemetry.flush(left_s)


#: The counter of each event. Any other event is a log line only.
COUNTERS = {
    "request.failed": "RequestsFailed",
    "inline.started": "InlineStarted",
    "inline.succeeded": "InlineSucceeded",
    "inline.failed": "InlineFailed",
    "inline.deferred": "InlineDeferred",
    "inline.lost": "InlineLost",
    "task.published": "TasksPublished",
    "task.succeeded": "TasksSucceeded",
    "task.failed": "TasksFailed",
    "task.retried": "TasksRetried",
    "task.rejected": "TasksRejected",
    "task.duplicate": "TasksDuplicate",
    "task.returned": "TasksReturned",
    "task.expired": "TasksExpired",
    "task.revoked": "TasksRevoked",
    "environment.cold": "ColdStarts",
}
#: The metric of an event's ``durationMs``.
DURATIONS = {
    "inline.succeeded": "InlineDuration",
    "inline.failed": "InlineDuration",
    "task.succeeded": "TaskDuration",
    "task.failed": "TaskDuration",
    "task.retried": "TaskDuration",
}


def embedded(line: Mapping[str, Any], environ: Mapping[str, str], *, now_ms: int) -> dict[str, Any]:
    """Metrics of a counted event's line; ``now_ms``: milliseconds since the epoch."""
    event = str(line.get("event", ""))
    namespace = environ.get("TWOLANE_METRICS_NAMESPACE", "twolane")
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if event not in COUNTERS or not namespace or not function:
        return {}
    members: dict[str, Any] = {"functionName": function, COUNTERS[event]: 1}
    metrics = [{"Name": COUNTERS[event], "Unit": "Count"}]
    if event in DURATIONS and isinstance(line.get("durationMs"), int | float):
        members[DURATIONS[event]] = line["durationMs"]
        metrics.append({"Name": DURATIONS[event], "Unit": "Milliseconds"})
    dimensions = [["functionName"]]
    if isinstance(line.get("taskName"), str) and is_per_task(environ):
        dimensions.append(["functionName", "taskName"])
    about = {"Namespace": namespace, "Dimensions": dimensions, "Metrics": metrics}
    return {**members, "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [about]}}


def is_per_task(environ: Mapping[str, str]) -> bool:
    """True if each task has metrics of its own."""
    return environ.get("TWOLANE_METRICS_PER_TASK", "true").lower() not in {"false", "0", "no"}
