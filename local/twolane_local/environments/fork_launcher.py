"""Starts environments by fork: one fork server for each function, started with its first one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.environments.process import (
    GroupProcess,
    Hear,
    Launch,
    Launcher,
    Pipe,
    Process,
    SpawnLauncher,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVER = "twolane_local.environments.forkserver"
_API = "AWS_LAMBDA_RUNTIME_API"


class ForkLauncher:
    """Implements ``Launcher``. Falls back to fresh interpreters where forking is not safe."""

    def __init__(self) -> None:
        self._servers: dict[Any, _Server] = {}
        self._retired: list[_Server] = []
        self._spawn = SpawnLauncher()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        if what.program is not None:
            return await self._spawn.launch(what, hear)
        shared = {name: value for name, value in what.environ.items() if name != _API}
        key = (what.handler, what.directory, tuple(sorted(shared.items())))
        server = self._servers.get(key)
        if server is None or server.closed:
            server = self._servers[key] = _Server(what, shared)
        if not await asyncio.shield(server.ready):
            return await self._spawn.launch(what, hear)
        return await server.launch(what.environ[_API], what.channel, hear)

    def forget(self) -> None:
        """Code has changed: what comes next imports it anew; what runs is not disturbed."""
        for server in self._servers.values():
            server.retire()
        self._retired += self._servers.values()
        self._servers.clear()

    async def close(self) -> None:
        for server in (*self._servers.values(), *self._retired):
            server.close()


def launcher(*, fresh: bool) -> Launcher:
    """The launcher for this platform; ``fresh`` starts each environment as AWS does, from nothing.

    Forking needs Linux: elsewhere system libraries do not survive it.
    """
    if fresh or sys.platform != "linux":
        return SpawnLauncher(stock=fresh)
    return ForkLauncher()


class _Server:
    """One fork server process and its control socket."""

    def __init__(self, what: Launch, environ: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = [str(os.getpid()), str(theirs.fileno()), what.handler]
            self._popen = subprocess.Popen(
                [sys.executable, "-m", SERVER, *arguments],
                cwd=what.directory,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what modules print at import is each environment's
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.closed = False
        self._retiring = False
        self.ready: asyncio.Future[bool] = self._loop.create_future()
        self._waiting: list[tuple[asyncio.Future[Process], GroupProcessMaker]] = []
        self._running: dict[int, tuple[GroupProcess, Hear]] = {}
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._readable)

    async def launch(self, api: str, channel: int, hear: Hear) -> Process:
        output, write_output = os.pipe()
        frames, write_frames = os.pipe()
        started: asyncio.Future[Process] = self._loop.create_future()
        self._waiting.append((started, GroupProcessMaker(output, frames, hear)))
        try:
            message = json.dumps({"api": api}).encode()
            socket.send_fds(self._control, [message], [write_output, write_frames, channel])
        except OSError:
            self._lost()
            self._abandon()  # also where it was closed before
        finally:
            os.close(write_output)
            os.close(write_frames)
        return await started

    def _readable(self) -> None:
        try:
            message = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        value = json.loads(message)
        if "ready" in value:
            self.ready.set_result(value["ready"])
        elif "started" in value:
            started, maker = self._waiting.pop(0)
            process = maker.make(value["started"])
            self._running[process.pid] = (process, maker.hear)
            if not started.done():
                started.set_result(process)
        else:
            self._ended(value["ended"], value["status"])

    def _ended(self, pid: int, status: int) -> None:
        process, hear = self._running.pop(pid)
        # What the group still runs ends with its leader, and must not hold the pipes open.
        process.kill()
        process.close()
        hear.on_exit(status)
        if self._retiring and not self._running and not self._waiting:
            self.close()

    def retire(self) -> None:
        """End with the last process that it forked, which would not outlive it."""
        self._retiring = True
        if not self._running and not self._waiting:
            self.close()

    def _lost(self) -> None:
        """The server is gone, and with it, by the kernel, all that it forked."""
        if self.closed:
            return
        self.close()
        self._abandon()
        for pid in list(self._running):
            self._ended(pid, -9)

    def _abandon(self) -> None:
        waiting, self._waiting = self._waiting, []
        for started, maker in waiting:
            maker.abandon()
            if not started.done():
                started.set_exception(ChildProcessError("the fork server ended"))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._control)
            self._control.close()
            self._popen.kill()
            self._popen.wait()
            if not self.ready.done():
                self.ready.set_result(False)


class GroupProcessMaker:
    """The ends of two pipes, until the process is known that writes into them."""

    def __init__(self, output: int, frames: int, hear: Hear) -> None:
        self._descriptors = (output, frames)
        self.hear = hear

    def make(self, pid: int) -> GroupProcess:
        """Listen to the process from now on."""
        output, frames = self._descriptors
        return GroupProcess(
            pid, (Pipe(output, self.hear.on_output), Pipe(frames, self.hear.on_frames))
        )

    def abandon(self) -> None:
        """There will be none."""
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
