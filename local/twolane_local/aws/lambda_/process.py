"""The child processes of environments: starts them, reads their output, freezes and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from twolane_local.aws.lambda_ import parent_death
from twolane_local.aws.lambda_.framed_log import LOG_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CHILD = "twolane_local.aws.lambda_.child"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Launch:
    """The description of a child: a handler, or a program of the function's own.

    ``channel`` is the child's end of a connection to its Runtime API, a file descriptor.
    """

    handler: str
    directory: Path
    environ: Mapping[str, str]
    channel: int
    program: Path | None = None
    #: The interpreter, if it is not ours.
    python: Path | None = None
    #: The limit for the init of a snapshot.
    init_limit_s: float = 130.0
    #: Called when the restore from a snapshot begins.
    on_restore: Callable[[], None] = lambda: None

    @property
    def interpreter(self) -> str:
        return str(self.python or sys.executable)


class Hear(Protocol):
    """Notified of the output and the end of a child, on the event loop."""

    def on_output(self, data: bytes) -> None:
        """Output on stdout or stderr."""

    def on_frames(self, data: bytes) -> None:
        """Output on its log, in the runtime client's frames."""

    def on_exit(self, status: int) -> None:
        """The child has ended; the status is negative for a signal."""


class InitFailedError(Exception):
    """The init for a snapshot failed; ``failure`` is the error object."""

    def __init__(self, failure: bytes) -> None:
        super().__init__(failure.decode("utf-8", "replace"))
        self.failure = failure


class Process(Protocol):
    """A running child. Signals are sent to its whole process group."""

    pid: int

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def drain(self) -> None:
        """Pass on its output so far, without waiting."""


class Launcher(Protocol):
    """Starts child processes."""

    async def launch(self, what: Launch, hear: Hear) -> Process:
        """Start one; ``hear`` gets its output and its end.

        Raises ``InitFailedError`` if there is no snapshot to restore it from.
        """

    def rest(self) -> None:
        """End the processes that are kept for later children, if there are no children now."""

    async def close(self) -> None:
        """End all processes that the launcher itself keeps."""


class Pipe:
    """The reading end of a pipe from a child; passes on its data."""

    def __init__(self, descriptor: int, on_data: Callable[[bytes], None]) -> None:
        self.descriptor = descriptor
        self._open = True
        self._on_data = on_data
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self.drain)

    def drain(self) -> None:
        """Read the available data without waiting."""
        while self._open:
            try:
                data = os.read(self.descriptor, _CHUNK)
            except BlockingIOError:
                return
            if data:
                self._on_data(data)
            if len(data) < _CHUNK:
                if not data:
                    self.close()
                return

    def close(self) -> None:
        """Close the pipe; unread data is lost."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self.descriptor)
            os.close(self.descriptor)


class GroupProcess:
    """A child that leads its own process group."""

    def __init__(self, pid: int, pipes: Sequence[Pipe]) -> None:
        self.pid = pid
        self._pipes = {pipe.descriptor: pipe for pipe in pipes}
        self._poll = select.poll()
        for descriptor in self._pipes:
            self._poll.register(descriptor, select.POLLIN)

    def _signal(self, number: signal.Signals) -> None:
        # If it has ended already, ``on_exit`` reports that.
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

    def drain(self) -> None:
        for descriptor, _ in self._poll.poll(0):
            self._pipes[descriptor].drain()

    def close(self) -> None:
        """The child has ended: read the rest and close the pipes."""
        for descriptor, pipe in self._pipes.items():
            pipe.drain()
            self._poll.unregister(descriptor)
            pipe.close()


class SpawnLauncher:
    """Starts each environment as a fresh interpreter.

    ``stock`` gives it AWS's runtime client with nothing replaced.
    """

    def __init__(self, *, stock: bool = False) -> None:
        self._stock = stock

    async def launch(self, what: Launch, hear: Hear) -> Process:
        output, write_output = os.pipe()
        frames, write_frames = os.pipe()
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220 (returns after vfork and exec)
                self._command(what),
                cwd=what.directory,
                env={**what.environ, LOG_DESCRIPTOR: str(write_frames)},
                stdin=subprocess.DEVNULL,
                stdout=write_output,
                stderr=write_output,
                pass_fds=(write_frames, what.channel),
                start_new_session=True,
            )
        finally:
            os.close(write_output)
            os.close(write_frames)
        process = GroupProcess(
            popen.pid, (Pipe(output, hear.on_output), Pipe(frames, hear.on_frames))
        )

        def ended(status: int) -> None:
            # Other processes of the group must end with its leader, and not hold the pipes open.
            process.kill()
            process.close()
            hear.on_exit(status)

        when_gone(popen.pid, popen.wait, ended)
        return process

    def _command(self, what: Launch) -> list[str]:
        parent = str(os.getpid())
        if what.program is not None:
            return [sys.executable, "-I", "-S", parent_death.__file__, parent, str(what.program)]
        # The native transport is compiled for our version only.
        stock = self._stock and what.python is None
        how = "--stock" if stock else f"--channel={what.channel}"
        return [what.interpreter, "-m", CHILD, parent, what.handler, how]

    def rest(self) -> None:
        return None

    async def close(self) -> None:
        return None


def when_gone(pid: int, reap: Callable[[], int], ended: Callable[[int], None]) -> None:
    """Call ``ended`` on the loop with the exit status once the process has ended."""
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
