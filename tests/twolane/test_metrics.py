from __future__ import annotations

from typing import Any

import pytest

from twolane.environment.logs import COUNTERS, DURATIONS, embedded

LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "shop-api"}


def test_an_event_with_a_duration_is_two_metrics_for_function_and_task() -> None:
    line = {"event": "task.succeeded", "taskName": "shop.add", "durationMs": 12.5, "message": "x"}
    assert embedded(line, LAMBDA, now_ms=1_700_000_000_000) == {
        "functionName": "shop-api",
        "TasksSucceeded": 1,
        "TaskDuration": 12.5,
        "_aws": {
            "Timestamp": 1_700_000_000_000,
            "CloudWatchMetrics": [
                {
                    "Namespace": "twolane",
                    "Dimensions": [["functionName"], ["functionName", "taskName"]],
                    "Metrics": [
                        {"Name": "TasksSucceeded", "Unit": "Count"},
                        {"Name": "TaskDuration", "Unit": "Milliseconds"},
                    ],
                }
            ],
        },
    }


def test_without_a_task_there_is_no_dimension_for_one() -> None:
    (about,) = embedded({"event": "environment.cold"}, LAMBDA, now_ms=0)["_aws"][
        "CloudWatchMetrics"
    ]
    assert about["Dimensions"] == [["functionName"]]
    assert about["Metrics"] == [{"Name": "ColdStarts", "Unit": "Count"}]


def test_a_task_has_no_metrics_of_its_own_where_that_is_off() -> None:
    line = {"event": "task.succeeded", "taskName": "mail", "durationMs": 3}
    for off in ("false", "0", "No"):
        environ = {**LAMBDA, "TWOLANE_METRICS_PER_TASK": off}
        (about,) = embedded(line, environ, now_ms=0)["_aws"]["CloudWatchMetrics"]
        assert about["Dimensions"] == [["functionName"]]
    (about,) = embedded(line, LAMBDA, now_ms=0)["_aws"]["CloudWatchMetrics"]
    assert about["Dimensions"] == [["functionName"], ["functionName", "taskName"]]


def test_the_namespace_is_the_functions_to_choose() -> None:
    environ = {**LAMBDA, "TWOLANE_METRICS_NAMESPACE": "shop"}
    (about,) = embedded({"event": "inline.lost"}, environ, now_ms=0)["_aws"]["CloudWatchMetrics"]
    assert about["Namespace"] == "shop"


@pytest.mark.parametrize(
    ("line", "environ"),
    [
        pytest.param({"message": "hello"}, LAMBDA, id="no event"),
        pytest.param({"event": "task.started"}, LAMBDA, id="an event that is not counted"),
        pytest.param({"event": "task.succeeded"}, {}, id="not in a function"),
        pytest.param(
            {"event": "task.succeeded"}, {**LAMBDA, "TWOLANE_METRICS_NAMESPACE": ""}, id="off"
        ),
    ],
)
def test_the_rest_stays_a_log_line(line: dict[str, Any], environ: dict[str, str]) -> None:
    assert embedded(line, environ, now_ms=0) == {}


def test_names_are_what_cloudwatch_takes() -> None:
    """At most 1024 characters of ASCII; one name, one unit."""
    assert all(name.isascii() and name.isalpha() for name in COUNTERS.values())
    assert not set(COUNTERS.values()) & set(DURATIONS.values())
    assert set(DURATIONS) <= set(COUNTERS)
