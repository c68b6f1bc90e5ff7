"""Starts environments by fork: from a fork server, or from a function's snapshot.

A fork server is started with the first environment, and serves all functions of a folder for which
it would have imported the same: see ``forkserver``. "16 cold environments serving" in
``benchmarks/emulator.py`` takes 0.4 s so, and 2.8 s with a fresh interpreter for each.

A snapshot is one init, then many restores: see ``snapshot``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import report, runtime_api
from twolane_local.aws.lambda_.framed_log import LOG_DESCRIPTOR
from twolane_local.aws.lambda_.process import (
    GroupProcess,
    Hear,
    InitFailedError,
    Launch,
    Launcher,
    Pipe,
    Process,
    SpawnLauncher,
)
from twolane_local.aws.lambda_.runtime_api import Extensions, Reply, refuse
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twolane_local.aws.invocation import Flow


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
    own = (f"{name}={value}" for name, value in what.environ.items() if name not in _OWN)
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
#: The variables that each environment has a value of its own for.
_OWN = frozenset({_API, "AWS_LAMBDA_LOG_STREAM_NAME"})


#: The variable of a function that is restored from a snapshot, and its value.
INITIALIZATION, SNAP_START = "AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"
VERSION = "AWS_LAMBDA_FUNCTION_VERSION"
_PROGRAM = "twolane_local.aws.lambda_.snapshot"


def snapstart_available() -> bool:
    """True on Linux with AWS's runtime client, which runs the hooks."""
    return sys.platform == "linux" and importlib.util.find_spec("awslambdaric") is not None


class Snapshot(ForkServer):
    """A process of a function that runs its init once; every environment is a fork of it.

    ``failure`` is the error object of a failed init; ``hear`` gets the output.
    """

    @classmethod
    async def take(cls, what: Launch, environ: Mapping[str, str], hear: Hear) -> Snapshot:
        """Begin the init; ``ready`` resolves to True if it succeeds."""
        calls = _Init(what, environ)
        server, address = await runtime_api.serve(calls, environ)
        with await runtime_api.connect(calls) as channel:
            variables = {**environ, _API: address}
            return cls(what, variables, hear, calls=calls, server=server, channel=channel.fileno())

    def __init__(
        self,
        what: Launch,
        environ: Mapping[str, str],
        hear: Hear,
        *,
        calls: _Init,
        server: asyncio.Server,
        channel: int,
    ) -> None:
        self._hear, self._calls, self._server, self._channel = hear, calls, server, channel
        self.failure: bytes | None = None
        self._states: set[str] = set()
        self._pipes: tuple[Pipe, ...] = ()
        super().__init__(what, environ)
        began = time.perf_counter()
        self._limit = self._loop.call_later(what.init_limit_s, self._timed_out)
        self.ready.add_done_callback(lambda _: self._taken(began))

    def _spawn(
        self, what: Launch, environ: Mapping[str, str], control: int
    ) -> subprocess.Popen[bytes]:
        output, write_output = os.pipe()
        frames, write_frames = os.pipe()
        self._pipes = (Pipe(output, self._hear.on_output), Pipe(frames, self._hear.on_frames))
        try:
            arguments = map(str, (os.getpid(), control, self._channel))
            return subprocess.Popen(
                [what.interpreter, "-m", _PROGRAM, *arguments, what.handler],
                cwd=what.directory,
                env={**environ, LOG_DESCRIPTOR: str(write_frames)},
                stdin=subprocess.DEVNULL,
                stdout=write_output,
                stderr=write_output,
                pass_fds=(control, self._channel, write_frames),
                start_new_session=True,
            )
        finally:
            os.close(write_output)
            os.close(write_frames)

    async def restore(self, what: Launch, hear: Hear) -> Process | None:
        """Start a copy; ``None`` if the snapshot was discarded, as the code has changed.

        Raises ``InitFailedError``.
        """
        if await asyncio.shield(self.ready):
            what.on_restore()
            return await self.launch(what, {_API: what.environ[_API]}, hear)
        if self.failure is not None:
            raise InitFailedError(self.failure)
        return None

    def _taken(self, began: float) -> None:
        self._limit.cancel()
        self._drain()
        duration_ms = (time.perf_counter() - began) * 1000
        if self.ready.result():
            # https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
            self._hear.on_output(f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\n".encode())

    def _timed_out(self) -> None:
        self.failure = report.init_timed_out()
        self._lost()

    def _told(self, value: dict[str, Any]) -> None:
        """Compare the state that a restored environment reports; it should be unique."""
        state = value["random"]
        if state in self._states:
            line = (
                f"! {self._calls.name}: `random` is in the same state in two environments that "
                "were restored from one snapshot: they draw the same numbers. Call random.seed() "
                "in a hook after the restore: "
                "https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html\n"
            )
            self._hear.on_output(line.encode())
        self._states.add(state)

    def _drain(self) -> None:
        for pipe in self._pipes:
            pipe.drain()

    def _lost(self) -> None:
        if not self.closed and not self.ready.done() and self.failure is None:
            self._popen.kill()  # it has ended or closed the connection
            status = self._popen.wait()
            self.failure = self._calls.failure or report.exited("", status)
        super()._lost()

    def close(self) -> None:
        if not self.closed:
            self._drain()
            super().close()
            self._drain()
            for pipe in self._pipes:
                pipe.close()
            self._server.close()


class _Init:
    """Implements ``Calls`` for the init of a snapshot."""

    def __init__(self, what: Launch, environ: Mapping[str, str]) -> None:
        self.name = environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.failure: bytes | None = None
        spec = FunctionSpec(self.name, self.name, what.handler, what.directory)
        self._extensions = Extensions(spec)

    def init_error(self, body: bytes, reply: Reply) -> None:
        self.failure = body
        reply.accept()

    def restore_error(self, body: bytes, reply: Reply) -> None:
        self.init_error(body, reply)

    def extension_register(self, name: str, events: list[str], reply: Reply) -> None:
        self._extensions.register(name, events, reply, closed=False)

    def extension_next(self, identifier: str, reply: Reply) -> None:
        self._extensions.next(identifier, reply)  # it waits, as init has no events

    def extension_error(self, identifier: str, body: bytes, reply: Reply) -> None:  # noqa: ARG002
        self.init_error(body, reply)

    def runtime_next(self, reply: Reply) -> None:
        _not_in_init(reply)

    def runtime_response(self, request_id: str, body: bytes, reply: Reply) -> None:  # noqa: ARG002
        _not_in_init(reply)

    def runtime_stream(self, request_id: str, content_type: str, flow: Flow) -> None:
        """There is no response without an invocation."""

    def runtime_error(self, request_id: str, body: bytes, reply: Reply) -> None:  # noqa: ARG002
        _not_in_init(reply)


def _not_in_init(reply: Reply) -> None:
    refuse(reply, 403, "InvalidStateTransition", "there is no invocation before the restore")


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
