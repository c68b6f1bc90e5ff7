"""A child process as an environment needs it: output, freeze, thaw, kill, and word of its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: a handler, in a directory, with an environment."""

    handler: str
    directory: Path
    environ: Mapping[str, str]


class Process(Protocol):
    """A running child. Its whole process group is meant by each signal."""

    pid: int

    def freeze(self) -> None:
        """Stop it where it stands."""

    def thaw(self) -> None:
        """Let it run on."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    def read_output(self) -> bytes:
        """What it has written so far and nobody has read, without waiting."""


class Launcher(Protocol):
    """Starts child processes."""

    async def launch(
        self,
        what: Launch,
        *,
        on_output: Callable[[bytes], None],
        on_exit: Callable[[int], None],
    ) -> Process:
        """``on_exit`` gets the exit status: negative for the signal that ended it."""

    async def close(self) -> None:
        """End whatever the launcher itself keeps running."""


class GroupProcess:
    """A child that leads its own process group, with one pipe for all its output."""

    def __init__(self, pid: int, output: int, on_output: Callable[[bytes], None]) -> None:
        self.pid = pid
        self._output: int | None = output
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        os.set_blocking(output, False)
        self._loop.add_reader(output, self._readable)

    def _signal(self, number: signal.Signals) -> None:
        # Already gone is as good as signalled: the exit is reported on its own way.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def read_output(self) -> bytes:
        if self._output is None:
            return b""
        try:
            return os.read(self._output, 1 << 20)
        except BlockingIOError:
            return b""

    def _readable(self) -> None:
        data = self.read_output()
        if data:
            self._on_output(data)
        else:
            self.close_output()

    def close_output(self) -> None:
        """Read what is left, then let go of the pipe."""
        if self._output is None:
            return
        while data := self.read_output():
            self._on_output(data)
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._output = None


class SpawnLauncher:
    """Starts each environment as a fresh interpreter."""

    async def launch(
        self,
        what: Launch,
        *,
        on_output: Callable[[bytes], None],
        on_exit: Callable[[int], None],
    ) -> Process:
        read, write = os.pipe()
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220 (returns after vfork and exec)
                [sys.executable, str(CHILD), str(os.getpid()), what.handler],
                cwd=what.directory,
                env=dict(what.environ),
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                start_new_session=True,
            )
        finally:
            os.close(write)
        process = GroupProcess(popen.pid, read, on_output)

        def ended(status: int) -> None:
            # A grandchild may hold the pipe open: what the group still runs ends with its leader.
            process.kill()
            process.close_output()
            on_exit(status)

        when_gone(popen.pid, popen.wait, ended)
        return process

    async def close(self) -> None:
        return None


def when_gone(pid: int, reap: Callable[[], int], ended: Callable[[int], None]) -> None:
    """Call ``ended`` on the loop with the exit status once the process is gone."""
    loop = asyncio.get_running_loop()
    if sys.platform == "linux":
        descriptor = os.pidfd_open(pid)

        def readable() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            ended(reap())

        loop.add_reader(descriptor, readable)
    else:

        def wait() -> None:
            status = reap()
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(ended, status)

        threading.Thread(target=wait, name=f"wait-{pid}", daemon=True).start()
