"""twolane_local.aws.lambda_.fork_control."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.process import GroupProcess, Hear, Launch, Pipe, Process

if TYPE_CHECKING:
    from collections.abc import Mapping


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
