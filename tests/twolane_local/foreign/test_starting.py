"""A start says what it waits for, ends at once when it is asked to, and outlives a slow init."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from . import projects

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator


@pytest.mark.slow
def test_an_init_of_more_than_ten_seconds_is_repeated_within_the_invocation(
    tmp_path: Path,
) -> None:
    async def script(emulator: Emulator) -> None:
        assert emulator.notes == []  # none of them ends the start, or is broken
        lines = projects.lines(emulator)
        waiting = next(line for line in lines if line.startswith("waiting for the init"))
        assert "each 10 s at most" in waiting
        places = {
            "Tortoise": "tortoise.py:3 in <module>",
            "Snail": "snail.py:6 in wait",
            "Sloth": "the startup of the application's lifespan, from sloth.py:15 in <module>",
        }
        for place in places.values():
            assert any(
                line.startswith(f"! its init took more than 10 s (it is in {place})")
                for line in lines
            )
        reports = [line for line in lines if line.startswith("INIT_REPORT Init Duration: 10000.00")]
        assert len(reports) == 3
        (api,) = emulator.addresses.apis.values()
        async with httpx.AsyncClient(timeout=40) as client:
            began = time.monotonic()
            first, *others = await asyncio.gather(
                client.get(f"{api}/garden"),
                projects.invoke(emulator, "Snail"),
                projects.invoke(emulator, "Sloth"),
            )
            assert time.monotonic() - began > 10
            assert 0 < int(first.text) < 14_500  # of 25 s
            assert int((await client.get(f"{api}/garden")).text) > 20_000
        for payload, error in others:
            assert error == "Unhandled"
            assert payload["errorType"] == "Sandbox.Timedout"
            assert payload["errorMessage"].endswith("Task timed out after 1.00 seconds")
        assert not [each for each in emulator.functions.states().values() if each.busy]

    projects.run(projects.copy("slow_init", tmp_path), script)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--in-process", "--no-reload"])
def test_ctrl_c_ends_a_start_that_hangs(tmp_path: Path, how: str) -> None:
    path = projects.copy("slow_init", tmp_path)
    command = [
        sys.executable, "-m", "twolane_local.cli", "up", how, "--port", "0", "--aws-port", "0",
        "--no-console", "--template", str(path), "--parameter", f"Runtime=python{projects.OURS}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "waiting for the init of functions" in line:
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert time.monotonic() - began < 6  # of which most is a loaded machine's
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
