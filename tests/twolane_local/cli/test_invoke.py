from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Echo:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: the-echo
      Handler: echo.handler
      CodeUri: src/
      Runtime: python3.13
      AutoPublishAlias: live
"""
CODE = """
def handler(event, context):
    print("a log line")
    if event.get("raise"): raise ValueError("bad")
    return event
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "echo.py").write_text(CODE)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path


def invoke(project: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twolane_local.cli", "invoke", *arguments],
        cwd=project, input=stdin, capture_output=True, text=True, timeout=30, check=False,
        env={
            **os.environ,
            "XDG_CACHE_HOME": str(project / "cache"),
            "XDG_RUNTIME_DIR": str(project / "run"),
        },
    )  # fmt: skip


def test_the_response_is_on_stdout_and_the_log_on_stderr(project: Path) -> None:
    (project / "event.json").write_text('{"a": "é"}')
    done = invoke(project, "Echo", "--event", "event.json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": "é"})
    assert "a log line" in done.stderr
    assert "a log line" not in done.stdout


@pytest.mark.parametrize("flags", [["the-echo"], ["Echo:live", "--in-process"]])
def test_a_failed_function_is_exit_code_one(project: Path, flags: list[str]) -> None:
    done = invoke(project, "--event", "-", *flags, stdin='{"raise": 1}')
    assert (done.returncode, json.loads(done.stdout)["errorType"]) == (1, "ValueError")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Nobody"], "no function 'Nobody'; it has: Echo"),
        (["Echo:green"], "no function 'Echo:green'; it has: Echo"),
        (["Echo", "--event", "none.json"], "none.json cannot be read"),
        (["Echo", "--event", "template.yaml"], "template.yaml is not JSON"),
        (["Echo", "--tenant-id", "blue"], "Remove the tenant ID from your request"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(
    project: Path, arguments: list[str], words: str
) -> None:
    done = invoke(project, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("! ")


@pytest.mark.slow
def test_in_the_emulator_that_runs(project: Path) -> None:
    """The same environment answers each time: another start would know nothing of the former."""
    (project / "src" / "echo.py").write_text(
        "seen = []\ndef handler(event, context):\n    seen.append(event)\n    return seen\n"
    )
    done = invoke(project, "Echo", "--running")
    assert (done.returncode, done.stdout) == (2, "")
    assert "start one with `twolane up`" in done.stderr
    command = [sys.executable, "-m", "twolane_local.cli", "up", "--port", "0", "--aws-port", "0"]
    emulator = subprocess.Popen(
        [*command, "--json"], cwd=project, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(project / "run")},
    )  # fmt: skip
    try:
        assert emulator.stdout is not None
        assert emulator.stdout.readline()
        answers = [
            invoke(project, name, "--running", "--event", "-", stdin=f'"{name}"')
            for name in ("Echo", "the-echo", "Nobody")
        ]
        answers.append(invoke(project, "Echo", "--running", "--tenant-id", "blue"))
    finally:
        emulator.send_signal(signal.SIGINT)
        emulator.communicate(timeout=30)
    first, second, unknown = answers[:3]
    assert "Remove the tenant ID from your request" in answers[3].stderr
    assert (first.returncode, json.loads(first.stdout)) == (0, ["Echo"])
    assert json.loads(second.stdout) == ["Echo", "the-echo"]
    assert "REPORT RequestId" in second.stderr
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no function named 'Nobody'; there are: the-echo" in unknown.stderr
