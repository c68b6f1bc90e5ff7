"""Counts and durations for CloudWatch, embedded in the log lines that are written anyway.

CloudWatch makes metrics of any JSON line that says which of its members are some (the embedded
metric format). The runtime's events already hold them, so a metric costs no call, no agent and no
line of its own: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

Each metric comes twice: for the function, and for the function and task. CloudWatch asks for each
by the month, so that tasks of many names cost: ``TWOLANE_METRICS_PER_TASK=false`` leaves the second
out. https://aws.amazon.com/cloudwatch/pricing/ The namespace is ``twolane``;
``TWOLANE_METRICS_NAMESPACE`` names another, or none if it is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The counter of each event. What is not here is a log line and nothing more.
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
    """The members that make metrics of a log line; none for a line that is no counted event.

    ``now_ms``: milliseconds since the epoch, as the format wants it.
    """
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
    """Whether each task has metrics of its own."""
    return environ.get("TWOLANE_METRICS_PER_TASK", "true").lower() not in {"false", "0", "no"}
