from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from twolane_local.aws.lambda_.report import (
    Report,
    SystemLog,
    error_line,
    error_type,
    task_paths,
    text_of,
)
from twolane_local.model import FunctionSpec

AT = 1_767_225_600.25


def system(level: str = "", application: str = "", **fields: Any) -> SystemLog:
    spec = FunctionSpec(
        "fn", "Fn", "a.b", Path("/code"), log_format="JSON", system_log_level=level,
        application_log_level=application, **fields,
    )  # fmt: skip
    return SystemLog(spec, "7")


def test_the_lines_of_a_json_log() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html"""
    log = system("DEBUG")
    start = log.start("r", AT)
    assert start is not None
    assert json.loads(text_of(start)) == {
        "time": "2026-01-01T00:00:00.250Z",
        "type": "platform.start",
        "record": {"requestId": "r", "version": "7"},
    }
    done, report = (
        json.loads(text_of(line))
        for line in log.end("r", Report(1.5, 128, 30, 2.5), AT, "error", "E")
    )
    assert (done["type"], report["type"]) == ("platform.runtimeDone", "platform.report")
    assert report["record"] == {
        "requestId": "r", "status": "error", "errorType": "E",
        "metrics": {"durationMs": 1.5, "billedDurationMs": 4, "memorySizeMB": 128,
                    "maxMemoryUsedMB": 30, "initDurationMs": 2.5},
    }  # fmt: skip
    init = json.loads(text_of(log.init_start("on-demand", AT)))
    assert init["type"] == "platform.initStart"
    assert init["record"]["runtimeVersion"].startswith("python:3.13")
    failed = json.loads(text_of(log.init_report(10_000, "", AT)))
    assert (failed["type"], failed["record"]["status"]) == ("platform.initReport", "timeout")


def test_an_error_object_may_be_anything() -> None:
    """A runtime of the function's own posts it."""
    for payload in (b"", b"[1]", b"\xff", b"[" * 100_000, b"{}"):
        assert (error_type(payload), error_line(payload)) == ("", b"\n\n")


@pytest.mark.parametrize(
    ("level", "status", "kinds"),
    [
        ("DEBUG", "success", ["start", "runtimeDone", "report"]),
        ("INFO", "success", ["start", "report"]),
        ("", "timeout", ["start", "runtimeDone", "report"]),
        ("WARN", "success", []),
        ("WARN", "timeout", ["runtimeDone", "report"]),
    ],
)
def test_the_level_of_the_system_log(level: str, status: str, kinds: list[str]) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html"""
    log = system(level)
    lines = [log.start("r", AT), *log.end("r", Report(1, 1, 1, None), AT, status)]
    found = [json.loads(text_of(line))["type"] for line in lines if line is not None]
    assert found == [f"platform.{kind}" for kind in kinds]


TIMED = '"timestamp": "2026-01-01T00:00:00Z"'


@pytest.mark.parametrize(
    ("level", "line", "hidden"),
    [
        ("WARN", f'{{"level": "INFO", {TIMED}}}', True),
        ("WARN", f'{{"level": "warning", {TIMED}}}', False),
        ("WARN", '{"level": "ERROR"}', True),  # without a time it has level INFO
        ("WARN", f"{{{TIMED}}}", True),
        ("", f'{{"level": "DEBUG", {TIMED}}}', True),
        ("", '{"a": 1}', False),
        ("FATAL", "text", False),
        ("FATAL", "{half", False),
    ],
)
def test_the_level_of_the_applications_log(level: str, line: str, hidden: bool) -> None:
    assert system(application=level).hides(line.encode()) is hidden


def test_a_text_log_filters_nothing() -> None:
    assert not SystemLog(FunctionSpec("fn", "Fn", "a.b", Path("/code"))).filters
    assert not system(application="TRACE").filters


def test_paths_are_those_of_an_environment() -> None:
    spec = FunctionSpec(
        "fn", "Fn", "a.b", Path("/home/me/shop/src"), layer_dirs=(Path("/home/me/layer"),),
        layer_sources=(Path("/home/me/shop/src/common"),), packages=(Path("/cache/é"),),
    )  # fmt: skip
    shown = task_paths(spec)
    for local, place in (
        ('File "/home/me/shop/src/app.py", line 1', 'File "/var/task/app.py", line 1'),
        ("/home/me/shop/src", "/var/task"),
        ("/home/me/shop/src/common/x.py", "/opt/python/x.py"),
        ("/home/me/layer/python/x.py:3", "/opt/python/x.py:3"),
        ("/cache/é/lib.py", "/var/task/lib.py"),
        ("/cache/\\u00e9/lib.py", "/var/task/lib.py"),
        (f"{sysconfig.get_path('purelib')}/fastapi/x.py", "/var/task/fastapi/x.py"),
        ("/home/me/shop/src2/app.py", "/home/me/shop/src2/app.py"),
        ("/mnt/home/me/shop/src/app.py", "/mnt/home/me/shop/src/app.py"),
    ):
        assert shown(local.encode()).decode() == place
    stdlib = shown(f"{sysconfig.get_path('stdlib')}/json/x.py".encode()).decode()
    assert stdlib.startswith("/var/lang/lib/python3.")
    assert stdlib.endswith("/json/x.py")
