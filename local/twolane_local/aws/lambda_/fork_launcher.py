"""Starts environments by fork, from fork servers that are started with the first of them.

One serves all functions of a folder for which it would have imported the same: see ``forkserver``.
"16 cold environments serving" in ``benchmarks/emulator.py`` takes 0.4 s so, and 2.8 s with a fresh
interpreter for each.

A function with SnapStart has a snapshot in its place: see ``snapshot``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.process import (
    GroupProcess,
    Hear,
    Launch,
    Launcher,
    Pipe,
    Process,
    SpawnLauncher,
)
from twolane_local.aws.lambda_.snapshot_launcher import INITIALIZATION, SNAP_START, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


SERVER = "twolane_local.aws.lambda_.forkserver"


class NotServedError(Exception):
    """A fork server has imported something else than a function needs."""


class ForkServer:
    """One fork server process and its control socket."""

    def __init__(self, what: Launch, environ: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = self._spawn(what, environ, theirs.fileno())
        self.closed = False
        self._served = {_function_of(what): True}
        self._retiring = False
        self.ready: asyncio.Future[bool] = self._loop.create_future()
        self._waiting: list[tuple[asyncio.Future[Process], GroupProcessMaker]] = []
        self._running: dict[int, tuple[GroupProcess, Hear]] = {}
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._readable)

    def _spawn(
        self, what: Launch, environ: Mapping[str, str], control: int
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [what.interpreter, "-m", SERVER, str(os.getpid()), str(control), what.handler],
            cwd=what.directory,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what modules print at import is each environment's
            stderr=subprocess.DEVNULL,
            pass_fds=(control,),
            start_new_session=True,
        )

    def may_serve(self, what: Launch) -> bool:
        """Whether it is worth to ask: until it is ready, only for what it was started for."""
        known = self._served.get(_function_of(what))
        return self.ready.done() and self.ready.result() if known is None else known

    async def launch(self, what: Launch, environ: Mapping[str, str], hear: Hear) -> Process:
        """A fork of it, with these variables; raises ``NotServedError``."""
        output, write_output = os.pipe()
        frames, write_frames = os.pipe()
        started: asyncio.Future[Process] = self._loop.create_future()
        self._waiting.append((started, GroupProcessMaker(output, frames, hear)))
        try:
            message = json.dumps({"handler": what.handler, "environ": dict(environ)}).encode()
            socket.send_fds(self._control, [message], [write_output, write_frames, what.channel])
        except OSError:
            self._lost()
            self._abandon()  # also where it was closed before
        finally:
            os.close(write_output)
            os.close(write_frames)
        try:
            process = await started
        except NotServedError:
            self._served[_function_of(what)] = False
            raise
        self._served[_function_of(what)] = True
        return process

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
            if started.done():  # whoever asked for it has gone
                process.kill()
            else:
                started.set_result(process)
        elif "refused" in value:
            started, maker = self._waiting.pop(0)
            maker.abandon()
            if not started.done():
                started.set_exception(NotServedError())
        elif "ended" in value:
            self._ended(value["ended"], value["status"])
        else:
            self._told(value)

    def _told(self, value: dict[str, Any]) -> None:
        """Whatever else it says."""

    def _ended(self, pid: int, status: int) -> None:
        process, hear = self._running.pop(pid)
        # What the group still runs ends with its leader, and must not hold the pipes open.
        process.kill()
        process.close()
        hear.on_exit(status)
        if self._retiring and not self._running and not self._waiting:
            self.close()

    def rest(self) -> None:
        """End if it is idle: where it is needed again, another is started."""
        if self.ready.done() and not self._running and not self._waiting:
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


def _function_of(what: Launch) -> tuple[str, ...]:
    """What a function's environments have in common, as long as its code is the same."""
    own = (f"{name}={value}" for name, value in what.environ.items() if name != _API)
    return (what.handler, *own)


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


_API = "AWS_LAMBDA_RUNTIME_API"


class ForkLauncher:
    """Implements ``Launcher``. Falls back to fresh interpreters where forking is not safe."""

    def __init__(self) -> None:
        self._servers: dict[tuple[Path, Path | None], list[ForkServer]] = {}
        self._snapshots: dict[Any, asyncio.Task[Snapshot]] = {}
        self._taken: list[asyncio.Task[Snapshot]] = []
        self._retired: list[ForkServer] = []
        self._spawn = SpawnLauncher()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        if what.program is not None:
            return await self._spawn.launch(what, hear)
        shared = {name: value for name, value in what.environ.items() if name != _API}
        if shared.get(INITIALIZATION) == SNAP_START:
            key = (what.handler, what.directory, what.python, tuple(sorted(shared.items())))
            return await self._restore(key, what, shared, hear)
        while True:
            server = self._server_for(what, shared)
            if not await asyncio.shield(server.ready):
                return await self._spawn.launch(what, hear)
            if server.closed:  # it was idle a moment ago
                continue
            try:
                return await server.launch(what, what.environ, hear)
            except NotServedError:
                continue

    def _server_for(self, what: Launch, shared: dict[str, str]) -> ForkServer:
        place = (what.directory, what.python)
        servers = self._servers.get(place, ())
        open_ones = self._servers[place] = [each for each in servers if not each.closed]
        for server in open_ones:
            if server.may_serve(what):
                return server
        open_ones.append(ForkServer(what, shared))
        return open_ones[-1]

    async def _restore(self, key: Any, what: Launch, shared: dict[str, str], hear: Hear) -> Process:
        while True:
            taking = self._snapshots.get(key)
            if taking is None or _is_over(taking):
                taking = asyncio.ensure_future(Snapshot.take(what, shared, hear))
                self._snapshots[key] = taking
                self._taken.append(taking)
            snapshot = await asyncio.shield(taking)
            process = await snapshot.restore(what, hear)
            if process is not None:
                return process

    def forget(self) -> None:
        """Code has changed: what comes next imports it anew; what runs is not disturbed."""
        servers = [server for servers in self._servers.values() for server in servers]
        for server in servers:
            server.retire()
        for taking in self._snapshots.values():
            taking.add_done_callback(_retire)
        self._retired += servers
        self._servers.clear()
        self._snapshots.clear()

    def rest(self) -> None:
        for folder, servers in self._servers.items():
            for server in servers:
                server.rest()
            self._servers[folder] = [server for server in servers if not server.closed]

    async def close(self) -> None:
        for servers in (*self._servers.values(), self._retired):
            for server in servers:
                server.close()
        for taken in await asyncio.gather(*self._taken, return_exceptions=True):
            if isinstance(taken, Snapshot):
                taken.close()


def _is_over(taking: asyncio.Task[Snapshot]) -> bool:
    """Whether it came to nothing, or has been given up since."""
    return taking.done() and (taking.exception() is not None or taking.result().closed)


def _retire(taking: asyncio.Task[Snapshot]) -> None:
    if taking.exception() is None:
        taking.result().retire()


def launcher(*, fresh: bool) -> Launcher:
    """The launcher for this platform; ``fresh`` starts each environment as AWS does, from nothing.

    Forking needs Linux: elsewhere system libraries do not survive it.
    """
    if fresh or sys.platform != "linux":
        return SpawnLauncher(stock=fresh)
    return ForkLauncher()
