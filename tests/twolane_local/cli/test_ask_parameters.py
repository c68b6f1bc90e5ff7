"""Parameters without a value, with and without a real terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Sender: {Type: String, Description: who writes}
  Password: {Type: String, NoEcho: true}
  Stage: {Type: String, Default: dev}
  RedisUrl: {Type: String}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Runtime: python3.12
      Handler: code_of.tell
      Environment: {Variables: {SENDER: !Ref Sender, PASSWORD: !Ref Password}}
"""
CODE = """
import os

def tell(event, context):
    return [os.environ["SENDER"], os.environ["PASSWORD"]]
"""
#: The first terminal that a session's leader opens is its own, as a shell's is.
RUN = """
import os, sys
if sys.stdin.isatty():
    os.open(os.ttyname(0), os.O_RDWR)
from twolane_local.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / "code_of.py").write_text(CODE)
    return [sys.executable, "-c", RUN, "invoke", "F", "--template", str(tmp_path / "template.yaml")]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_person_is_asked(command: list[str], terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        seen = b""
        for prompt, answer in ((b"Sender (who writes): ", b"ann@"), (b"Password: ", b"sesame")):
            while prompt not in seen:
                seen += os.read(ours, 1024)
            os.write(ours, answer + b"\n")
        assert json.loads(process.stdout.read()) == ["ann@", "sesame"]
        assert process.wait(20) == 0
    assert b"sesame" not in seen
    assert b"RedisUrl" not in seen  # the emulator's own


def test_elsewhere_all_that_is_missing_is_named_at_once(command: list[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert (
        "parameters Sender (who writes), Password have no default; give --parameter Sender=VALUE "
        "--parameter Password=VALUE, a --parameter-file, parameter_overrides in samconfig.toml, or "
        "a line in .env"
    ) in done.stderr
