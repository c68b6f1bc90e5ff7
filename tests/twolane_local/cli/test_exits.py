"""Each exit code, by the real command line in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.cli import exits

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "twolane_local.cli"]
PRINTING = """
import sys
from twolane_local.cli import main, template
template.run = lambda options: print("x" * 100_000) or 0
sys.exit(main(["template"]))
"""
# Who is started in the background, as CI may be, is deaf to SIGINT, and so are its children.
HANGING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from twolane_local.cli import main, template
template.run = lambda options: print("ready", flush=True) or time.sleep(60)
sys.exit(main(["template"]))
"""


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, env=environment(cwd, **environ),
    )  # fmt: skip


def environment(cwd: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "XDG_CACHE_HOME": str(cwd), "XDG_RUNTIME_DIR": "", **more}


def test_done(tmp_path: Path) -> None:
    assert run("env", cwd=tmp_path).returncode == exits.DONE
    assert run("--help", cwd=tmp_path).returncode == exits.DONE


def test_no(tmp_path: Path) -> None:
    """A project whose handler does not import: doctor ran, and found something."""
    (tmp_path / "template.yaml").write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  F:\n    Type: AWS::Serverless::"
        "Function\n    Properties: {Handler: gone.handler, CodeUri: ., Runtime: python3.13}\n"
    )
    done = run("doctor", "--port", "0", cwd=tmp_path)
    assert done.returncode == exits.NO, done.stderr
    assert "! handlers" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "invalid choice"),
        (["queues"], "start one with `twolane up`"),
        (["queues", "--stack", "shop"], "--region"),
    ],
)
def test_error(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (exits.ERROR, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def started(code: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(cwd),
    )  # fmt: skip


def test_interrupted(tmp_path: Path) -> None:
    with started(HANGING, tmp_path) as process:
        pipe: Any = process.stdout
        assert pipe.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == exits.INTERRUPTED


def test_pipe_closed(tmp_path: Path) -> None:
    with started(PRINTING, tmp_path) as process:
        pipe: Any = process.stdout
        pipe.close()
        errors: Any = process.stderr
        assert errors.read() == ""
    assert process.returncode == exits.PIPE_CLOSED
