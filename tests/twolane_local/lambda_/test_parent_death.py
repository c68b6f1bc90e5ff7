"""Processes that die with their parent, by the kernel and by the watchdog."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# The parent starts a child that dies with it, prints its id, and waits to be killed.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
time.sleep(60)
"""
CHILD = """
import os, sys, time
from twolane_local.aws.lambda_.parent_death import die_with_parent
die_with_parent(os.getppid(), platform=sys.argv[1])
print("ready", flush=True)
time.sleep(60)
"""

platforms = pytest.mark.parametrize("platform", ["linux", "darwin"])


def start(platform: str) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, platform], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child, ready = parent.stdout.readline().split()
    assert ready == "ready"
    return parent, int(child)


def gone(descriptor: int) -> bool:
    """True if the process of this descriptor ends within ten seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(10_000))


@platforms
@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_dies_with_its_parent(platform: str, stopped: bool) -> None:
    parent, child = start(platform)
    descriptor = os.pidfd_open(child)
    try:
        if stopped:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.communicate()  # the process that started the emulator waits for its end
        assert gone(descriptor)
    finally:
        os.close(descriptor)


def test_the_watchdog_ends_with_the_child_and_holds_nothing_open() -> None:
    parent, child = start("darwin")
    (watchdog,) = map(int, Path(f"/proc/{child}/task/{child}/children").read_text().split())
    descriptor = os.pidfd_open(watchdog)
    try:
        assert os.getsid(watchdog) == watchdog
        os.kill(child, signal.SIGKILL)
        assert gone(descriptor)
    finally:
        parent.kill()
        parent.communicate()
        os.close(descriptor)


@platforms
def test_a_parent_that_is_gone_already_ends_it_at_once(platform: str) -> None:
    code = (
        "import sys; from twolane_local.aws.lambda_.parent_death import die_with_parent; "
        "die_with_parent(1 << 22, platform=sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, platform], timeout=20, check=False)
    assert done.returncode == 1
