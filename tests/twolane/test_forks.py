"""A forked process that comes back, in real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from twolane.environment.forks import ends_in_child

@ends_in_child
def handler(how):
    if os.fork():
        _, status = os.wait()
        return os.waitstatus_to_exitcode(status)
    if how == "raises":
        raise ValueError("in the child")
    if how.startswith("exits"):
        sys.exit({"exits": None, "exits with 3": 3, "exits with words": "some words"}[how])
    if how == "closes":
        os.closerange(0, 100)
    print("from the child")

print("the child ended with", handler(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("returns", 0, ""),
        ("raises", 1, "ValueError: in the child"),
        ("exits", 0, ""),
        ("exits with 3", 3, ""),
        ("exits with words", 1, "some words"),
        ("closes", 1, ""),
    ],
)
def test_only_the_parent_returns(how: str, status: int, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=30, check=True
    )
    assert [line for line in ran.stdout.splitlines() if "ended" in line] == [
        f"the child ended with {status}"
    ]
    assert ("from the child" in ran.stdout) == (how == "returns")
    assert said in ran.stderr
