from __future__ import annotations

from twolane_local.cli.functions import functions_table

LOCAL = {
    "name": "shop-Worker", "logicalId": "Worker", "handler": "app.worker.handler",
    "memoryMb": 512, "timeoutSeconds": 60.0, "invocations": 3, "errors": 1, "throttles": 0,
    "p50Ms": 9.4, "p95Ms": 1200.0, "concurrency": {"reserved": 2},
    "environments": [{"state": "frozen"}, {"state": "busy"}, {"state": "frozen"}],
}  # fmt: skip
DEPLOYED = {"name": "shop-Api", "handler": "app.api.handler", "memoryMb": 1024,
            "timeoutSeconds": 30, "concurrency": {"reserved": None}}  # fmt: skip


def test_a_line_for_each_function() -> None:
    head, line = functions_table([LOCAL]).splitlines()
    assert head.split() == [
        "FUNCTION", "HANDLER", "MEMORY", "TIMEOUT", "RESERVED", "ENVIRONMENTS", "INVOKED", "ERRORS",
        "THROTTLES", "P50", "P95",
    ]  # fmt: skip
    assert line.split("  ")[0] == "Worker"
    assert "1 busy, 2 frozen" in line
    assert line.endswith("9 ms  1.2 s")


def test_environments_are_counted_where_they_are_not_listed() -> None:
    function = {**LOCAL, "environments": [], "concurrency": {"busy": 1, "idle": 2, "starting": 0}}
    assert "1 busy, 2 idle" in functions_table([function])


def test_columns_that_nothing_fills_are_left_out() -> None:
    assert functions_table([DEPLOYED]).splitlines() == [
        "FUNCTION  HANDLER          MEMORY   TIMEOUT",
        "shop-Api  app.api.handler  1024 MB  30 s",
    ]
    assert functions_table([]) == "there is no function"
