"""The emulator's side of a function's snapshot: one init, then many restores."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import report, runtime_api
from twolane_local.aws.lambda_.fork_control import ForkServer
from twolane_local.aws.lambda_.process import LOG_DESCRIPTOR, InitFailedError, Launch, Pipe
from twolane_local.aws.lambda_.runtime_api import Extensions, Reply, refuse
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.invocation import Flow
    from twolane_local.aws.lambda_.process import Hear, Process

#: The variable of a function that is restored from a snapshot, and its value.
INITIALIZATION, SNAP_START = "AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"
_PROGRAM = "twolane_local.aws.lambda_.snapshot"
_API = "AWS_LAMBDA_RUNTIME_API"


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
        server, port = await runtime_api.serve(calls)
        with await runtime_api.connect(calls) as channel:
            variables = {**environ, _API: f"127.0.0.1:{port}"}
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
