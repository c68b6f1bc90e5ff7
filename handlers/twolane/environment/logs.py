"""Structured log lines: one JSON object a line, which a person, CloudWatch and the emulator read.

Every step of the runtime that matters is an *event* (``task.started``, ``inline.failed`` …) with
fields beside it. ``emit`` is the only way that the runtime writes one. The line's shape::

    {"timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "logger": "twolane.worker",
     "message": "…", "event": "task.started", "requestId": "…", "taskId": "…", …}

Field names are camelCase, as in AWS's own JSON log format:
https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html

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

import json
import logging
import os
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The members of every line of the current invocation: requestId, traceId, taskId.
correlation: ContextVar[dict[str, str] | None] = ContextVar("twolane_correlation", default=None)


def emit(
    logger: logging.Logger,
    event: str,
    message: str,
    *,
    level: int = logging.INFO,
    exc_info: BaseException | None = None,
    **fields: Any,
) -> None:
    """Write one event; ``fields`` must be JSON values and hold no secret."""
    if not logger.isEnabledFor(level):
        return
    # As ``logger.log`` does, which looks through all frames for the one that is its caller.
    caller = sys._getframe(1)  # noqa: SLF001 - as the standard library's logging
    error = (type(exc_info), exc_info, exc_info.__traceback__) if exc_info is not None else None
    logger.handle(
        logger.makeRecord(
            logger.name, level, caller.f_code.co_filename, caller.f_lineno, message, (), error,
            caller.f_code.co_name, {"twolane": {"event": event, **fields}},
        )
    )  # fmt: skip


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
        if record.exc_info and record.exc_info[0] is not None:
            line["errorType"] = record.exc_info[0].__name__
            line["stackTrace"] = self.formatException(record.exc_info)
        line |= embedded(line, os.environ, now_ms=int(record.created * 1000))
        return _encoded(line) + self._end


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


def configure(environ: dict[str, str] | None = None) -> None:
    """Give the root logger's handler our formatter in an execution environment only; Lambda's own
    handler, which knows how to reach CloudWatch, stays. Idempotent.
    """
    env = os.environ if environ is None else environ
    if "AWS_LAMBDA_FUNCTION_NAME" not in env:
        return
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stdout))
    fresh = False
    for handler in root.handlers:
        if not isinstance(handler.formatter, JsonFormatter):
            fresh = True
            # awslambdaric's handler writes what the formatter gives, and no more.
            ends_lines = isinstance(handler, logging.StreamHandler)
            handler.setFormatter(JsonFormatter("" if ends_lines else "\n"))
    level = env.get("AWS_LAMBDA_LOG_LEVEL", "INFO")
    root.setLevel("DEBUG" if level == "TRACE" else level)  # a level of Lambda's, not of logging's
    # botocore logs at INFO where it found credentials and endpoints, at every cold start.
    logging.getLogger("botocore").setLevel(max(root.level, logging.WARNING))
    if fresh:
        kind = env.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        message = f"Execution environment starts ({kind})"
        emit(logging.getLogger("twolane"), "environment.cold", message, initialization=kind)


#: The counter of each event. Any other event is a log line only.
COUNTERS = {
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
