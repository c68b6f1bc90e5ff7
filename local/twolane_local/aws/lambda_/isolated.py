"""An isolated execution environment: a child process with AWS's own runtime client.

Its life cycle is that of Lambda: init, then one invocation at a time, frozen in between, killed at
the timeout: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from twolane_local.aws.invocation import MAX_STREAM, Invocation
from twolane_local.aws.lambda_ import report, runtime_api
from twolane_local.aws.lambda_.launchers import INITIALIZATION, SNAP_START, VERSION
from twolane_local.aws.lambda_.output import Output
from twolane_local.aws.lambda_.process import InitFailedError, Launch
from twolane_local.aws.lambda_.report import ERROR, SUCCESS, TIMEOUT
from twolane_local.aws.lambda_.runtime_api import Extensions
from twolane_local.aws.lambda_.stack_dump import StackDump, position
from twolane_local.model import LATEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.invocation import Flow, ResponseStream
    from twolane_local.aws.lambda_.environment import Owner, Work
    from twolane_local.aws.lambda_.output import Sink
    from twolane_local.aws.lambda_.process import Launcher, Process
    from twolane_local.aws.lambda_.runtime_api import Reply
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


#: The idle time before an environment is frozen. To stop and continue a process takes longer than
#: many handlers do, so an environment that is invoked again at once is left running.
FREEZE_AFTER_S = 0.02


class Freezer:
    """Calls ``freeze`` after an idle time; one timer serves many invocations."""

    def __init__(self, freeze: Callable[[], None]) -> None:
        self._freeze = freeze
        self._loop = asyncio.get_running_loop()
        self._idle_since: float | None = None  # the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self.frozen = False

    def idle(self) -> None:
        """The environment is idle from now on."""
        self._idle_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(FREEZE_AFTER_S, self._look)

    def busy(self) -> bool:
        """The environment has work; returns True if it was frozen."""
        self._idle_since = None
        was, self.frozen = self.frozen, False
        return was

    def _look(self) -> None:
        self._timer = None
        if self._idle_since is None:
            return
        due = self._idle_since + FREEZE_AFTER_S
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._idle_since = None
            self.frozen = True
            self._freeze()

    def close(self) -> None:
        """Freeze nothing from now on."""
        self._idle_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


#: The interval at which the memory of a running invocation is read.
_EVERY_S = 0.1


class MemoryLimit:
    """Calls ``exceeded`` if a process with an invocation has more resident memory than allowed."""

    def __init__(self, limit_mb: int, exceeded: Callable[[], None]) -> None:
        self._limit_mb = limit_mb
        self._exceeded = exceeded
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pid: int | None = None
        self._since = 0.0  # the loop's time

    def watch(self, pid: int | None) -> None:
        """Watch this process from now on, or none with ``None``."""
        self._pid = pid
        self._since = self._loop.time()
        if pid is not None and self._timer is None:
            self._timer = self._loop.call_later(_EVERY_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._pid is None:
            return
        due = self._since + _EVERY_S
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        elif report.memory_mb(self._pid) > self._limit_mb:
            self._exceeded()
        else:
            self._timer = self._loop.call_later(_EVERY_S, self._look)


class StreamedResponse:
    """Implements ``Streamed``; calls ``done(payload, error)`` at the end."""

    def __init__(
        self,
        stream: ResponseStream | None,
        content_type: str,
        flow: Flow,
        done: Callable[[bytes, str | None], None],
    ) -> None:
        self._stream = stream
        self._done = done
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = runtime_api.MAX_RESPONSE if stream is None else MAX_STREAM
        if stream is not None:
            stream.open(content_type, flow)

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            return  # ``end`` reports it
        if self._stream is not None:
            self._stream.write(data)
        else:
            self._parts.append(data)

    def end(self, error: bytes | None) -> None:
        if error is None and self._size > self._limit:
            error = report.too_large(self._size, self._limit)
        if error is not None:
            self._done(error, "Unhandled")
        else:
            self._done(b"".join(self._parts), None)


#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
INIT_LIMIT_S = 10.0
#: At least, for the init of a snapshot; and for each restore with its hooks:
#: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
SNAPSHOT_LIMIT_S, RESTORE_LIMIT_S = 130.0, 10.0
#: With an internal extension the runtime gets SIGTERM and this long; without one, SIGKILL.
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
SHUTDOWN_S = 0.5


class IsolatedEnvironment:
    """Implements ``Environment`` towards the pool, and ``Calls`` towards its process."""

    def __init__(
        self,
        spec: FunctionSpec,
        environ: Mapping[str, str],
        *,
        owner: Owner,
        launcher: Launcher,
        journal: Journal,
        log: Sink | None = None,
    ) -> None:
        """``log`` is its log stream."""
        self._spec = spec
        self._environ = environ
        self._owner = owner
        self._launcher = launcher
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._output = Output(journal, spec, log, environ.get(VERSION, LATEST))
        self._process: Process | None = None
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._stopping = False
        self._runtime: Reply | None = None
        self._extensions = Extensions(spec)
        self._work: Work | None = None
        self._initialised = False
        #: The init took too long, and is repeated within the next invocation.
        self._offered = self._took_too_long = False
        self._stack_dump = StackDump()
        self._init_failure: bytes | None = None
        self._restores = environ.get(INITIALIZATION) == SNAP_START
        self._figures = report.Figures(spec.memory_mb, restores=self._restores)
        self._freezer = Freezer(self._freeze)
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._limit = MemoryLimit(spec.memory_mb, self._above_memory)
        self._killed_as = self._ended_as = ""
        self._status, self._error_type = SUCCESS, ""
        self.responded = False

    # Called by the pool.

    def start(self) -> None:
        self._began = time.perf_counter()
        self._output.init_begins(self._environ.get(INITIALIZATION, "on-demand"))
        self._limit_init()
        self._starting = self._loop.create_task(self._start())

    def _limit_init(self) -> None:
        """Called again when the process runs: its start does not count, as it is not Lambda's."""
        if self._restores or self._offered:  # snapshots and invocations have their own limits
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(INIT_LIMIT_S, self._init_too_long)

    def _init_too_long(self) -> None:
        self._took_too_long = True
        self._timer = None
        self._ending = self._loop.create_task(self._end_init())

    async def _end_init(self) -> None:
        """End the init; as on Lambda, the next invocation repeats it within its own timeout.

        https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
        """
        where = await self.where()
        if self._initialised or self._stopping or self._gone.is_set():
            self._took_too_long = False
            return
        limit_ms = INIT_LIMIT_S * 1000
        for line in (
            f"INIT_REPORT Init Duration: {limit_ms:.2f} ms\tPhase: init\tStatus: timeout",
            f"! its init took more than {INIT_LIMIT_S:g} s"
            + (f" (it is in {where})" if where else "")
            + "; as on AWS, the next invocation repeats it, within its timeout of "
            f"{self._spec.timeout_s:g} s",
        ):
            self._journal.record("log", function=self._spec.name, request_id=None, line=line)
        self._output.init_fails(limit_ms)
        if self._process is not None:
            self._killed_as = "ended: its init took too long"
            self._process.kill()
        else:  # the process has not started yet, and continues
            self._took_too_long = False
            self._offer()

    def _offer(self) -> None:
        self._offered = self._figures.repeated = True
        self._owner.freed(self)

    def refuse(self, work: Work, failure: bytes) -> Invocation:
        return self._output.refuse(work, failure, self._spec.memory_mb)

    async def where(self) -> str:
        process = self._process
        if process is None or self._gone.is_set():
            return ""
        frames, output = await self._stack_dump.request(process.pid)
        if output:
            self._output.lines(output)
        return position(frames, self._spec.code_dir)

    async def _start(self) -> None:
        try:
            await self._launch()
        except InitFailedError as error:
            self._not_started(error.failure)
        except OSError as error:  # no process, no descriptor, or the fork server was killed
            problem = f"Error: the environment did not start: {error}"
            self._not_started(report.error("Runtime.ExitError", problem))
        except asyncio.CancelledError:
            self._not_started(b"")
            raise

    def _not_started(self, failure: bytes) -> None:
        self._cancel_timer()
        if self._server is not None:
            self._server.close()
        self._gone.set()
        if self._work is not None:
            if not self.responded:
                self._answer(
                    self._work, report.of_request(failure, self._work.request_id), "Unhandled"
                )
            self._finish(self._work, self._ended_as or "the environment did not start")
        if not self._stopping:
            self._owner.gone(self, None if self._offered else failure)

    async def _launch(self) -> None:
        self._server, address = await runtime_api.serve(self, self._environ)
        with await runtime_api.connect(self) as channel:
            self._process = await self._launcher.launch(
                Launch(
                    handler=self._spec.handler,
                    directory=self._spec.code_dir,
                    environ={**self._environ, "AWS_LAMBDA_RUNTIME_API": address},
                    channel=channel.fileno(),
                    program=self._spec.program,
                    python=self._spec.python,
                    init_limit_s=max(SNAPSHOT_LIMIT_S, self._spec.timeout_s),
                    on_restore=self._restore_begins,
                ),
                self,
            )
        if self._stopping or self._ended_as:
            self._process.kill()
        self._limit_init()
        self._settle()  # its first call may have come before the launcher has returned

    def _restore_begins(self) -> None:
        self._began = time.perf_counter()
        self._timer = self._loop.call_later(RESTORE_LIMIT_S, self._timed_out)

    def begin(self, work: Work) -> None:
        with_init = self._offered and not self._initialised  # the function's timeout covers both
        if not with_init and self._process is not None and self._freezer.busy():
            self._process.thaw()
        self._work = work
        self.responded = False
        self._began = time.perf_counter()
        work.deadline_ms = int((time.time() + self._spec.timeout_s) * 1000)
        if not with_init:
            self._send_event(work)  # first of all: the rest is done while the function runs
        self._timer = self._loop.call_later(self._spec.timeout_s, self._timed_out)
        self._output.begins(work)
        work.record.started(cold=self._figures.cold, payload=work.event)
        if with_init and (self._starting is None or self._starting.done()):
            self._gone.clear()
            self._starting = self._loop.create_task(self._start())

    def _send_event(self, work: Work) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is None or self._process is None:
            raise RuntimeError("the environment is not free")
        runtime.send(200, work.event, runtime_api.next_headers(work, self._spec.arn))
        self._extensions.tell(work)
        self._limit.watch(self._process.pid)

    async def stop(self) -> None:
        self._stopping = True
        self._freezer.close()
        if self._process is not None and not self._gone.is_set():
            if self._extensions and self._initialised:
                self._process.terminate()
                try:
                    async with asyncio.timeout(SHUTDOWN_S):
                        await self._gone.wait()
                except TimeoutError:
                    self._process.kill()
            else:
                self._process.kill()
            await self._gone.wait()
        elif self._starting is not None and not self._starting.done():
            if self._restores:  # a snapshot may take minutes; its launcher ends it
                self._starting.cancel()
            await asyncio.wait([self._starting])
            await self._gone.wait()

    # Called by the process.

    def runtime_next(self, reply: Reply) -> None:
        self._runtime = reply
        # After the callbacks of a response in the same read: the caller gets that first.
        self._loop.call_soon(self._settle)

    def runtime_response(self, request_id: str, body: bytes, reply: Reply) -> None:
        work = self._current(request_id, reply)
        if work is None:
            return
        if len(body) > runtime_api.MAX_RESPONSE:
            runtime_api.refuse(
                reply, 413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size"
            )
            self._answer(work, report.too_large(len(body)), "Unhandled")
            return
        runtime_api.accept(reply)
        self._answer(work, body, None)

    def runtime_stream(
        self, request_id: str, content_type: str, flow: Flow
    ) -> StreamedResponse | None:
        work = self._work
        if work is None or work.request_id != request_id or self.responded:
            return None
        return StreamedResponse(work.stream, content_type, flow, partial(self._answer, work))

    def runtime_error(self, request_id: str, body: bytes, reply: Reply) -> None:
        work = self._current(request_id, reply)
        if work is not None:
            runtime_api.accept(reply)
            self._answer(work, body, "Unhandled")

    def init_error(self, body: bytes, reply: Reply) -> None:
        self._init_failure = body
        runtime_api.accept(reply)

    def restore_error(self, body: bytes, reply: Reply) -> None:
        self.init_error(body, reply)

    def extension_register(self, name: str, events: list[str], reply: Reply) -> None:
        closed = self._runtime is not None or self._initialised
        self._extensions.register(name, events, reply, closed=closed)

    def extension_next(self, identifier: str, reply: Reply) -> None:
        if self._extensions.next(identifier, reply):
            self._settle()

    def extension_error(self, identifier: str, body: bytes, reply: Reply) -> None:  # noqa: ARG002
        runtime_api.accept(reply)
        if not self._initialised:
            self._init_failure = body
        if self._process is not None:
            self._process.kill()

    # Phases.

    def _settle(self) -> None:
        """End the phase once the runtime and all extensions wait for the next event."""
        if self._process is None or self._runtime is None or not self._extensions.settled:
            return
        if not self._initialised:
            self._init_ended()
            if self._offered:
                if self._work is None:
                    self._freezer.idle()
                elif not self.responded:
                    self._send_event(self._work)
                return
        elif self._work is not None:
            if not self.responded:
                # The runtime asked for the next invocation without answering this one.
                no_response = report.no_response(self._work.request_id)
                self._answer(self._work, no_response, "Unhandled")
            self._finish(self._work)
        else:
            return
        self._owner.freed(self)
        if self._work is None:
            # No invocation was waiting: the environment freezes, as on Lambda.
            self._freezer.idle()

    def _freeze(self) -> None:
        if self._process is not None:
            self._process.freeze()
            self._journal.record("environment.frozen", function=self._spec.name)

    def _init_ended(self) -> None:
        if self._work is None:
            self._cancel_timer()
        self._initialised = True
        self._figures.init_ms = (time.perf_counter() - self._began) * 1000
        self._drain()
        self._journal.record(
            "environment.started",
            function=self._spec.name,
            request_id=None,
            **self._figures.began(),
        )

    def _finish(self, work: Work, reason: str = "") -> None:
        self._cancel_timer()
        self._drain()
        duration = (time.perf_counter() - self._began) * 1000
        figures = self._report(duration)
        self._output.ends(figures, self._status, self._error_type)
        work.record.ended(figures, reason)
        self._work = None
        self._figures.cold = False

    def _report(self, duration_ms: float) -> report.Report:
        return self._figures.report(duration_ms, self._process.pid if self._process else 0)

    def _answer(self, work: Work, payload: bytes, error: str | None) -> None:
        if self.responded:  # a stream that ends after the timeout
            return
        self.responded = True
        self._drain()
        self._output.flush()
        duration = (time.perf_counter() - self._began) * 1000
        work.record.responded(duration, error, payload)
        self._status, self._error_type = SUCCESS, ""
        if error is not None:
            self._error_type = report.error_type(payload)
            self._status = TIMEOUT if self._error_type == report.TIMED_OUT else ERROR
            payload = self._output.shown(payload)
        if work.stream is not None:
            work.stream.end(payload if error is not None else None)
        if not work.done.done():
            figures = self._report(duration)
            tail = self._output.tail(work, figures, self._status, self._error_type)
            work.done.set_result(
                Invocation(work.request_id, payload, error, tail, self._figures.cold, duration)
            )

    def _current(self, request_id: str, reply: Reply) -> Work | None:
        work = self._work
        if work is not None and work.request_id == request_id and not self.responded:
            return work
        runtime_api.refuse(reply, 400, "InvalidRequestID", "Invalid request ID")
        return None

    # The end of the process.

    def _timed_out(self) -> None:
        """Kill the process: the timeout covers the runtime and its extensions."""
        work = self._work
        if work is None:
            self._killed_as = "init"
            self._init_failure = report.restore_timed_out()
        else:
            self._killed_as = "timeout"
            self._ended_as = f"timed out after {self._spec.timeout_s:g} s"
            self._output.times_out(self._spec.timeout_s)
            if self.responded:
                self._status = TIMEOUT
                self._journal.record(
                    "log",
                    function=self._spec.name,
                    request_id=work.request_id,
                    line=f"! timed out after {self._spec.timeout_s:g} s with the response sent: "
                    "what was still running is lost",
                )
            else:
                self._answer(
                    work, report.timed_out(work.request_id, self._spec.timeout_s), "Unhandled"
                )
        if self._process is not None:
            self._process.kill()
        elif work is not None and self._starting is not None:
            self._starting.cancel()

    def _above_memory(self) -> None:
        """Kill the process, as Lambda does; ``on_exit`` does the rest."""
        self._killed_as = f"killed above {self._spec.memory_mb} MB of memory"
        self._ended_as = f"the environment was {self._killed_as}"
        if self._process is not None:
            self._process.kill()

    def on_output(self, data: bytes) -> None:
        if not self._stack_dump.consume(data):
            self._output.lines(data)

    def on_frames(self, data: bytes) -> None:
        self._output.frames(data)

    def _drain(self) -> None:  # output written before a call over HTTP is in the pipe by now
        if self._process is not None:
            self._process.drain()

    def on_exit(self, status: int) -> None:
        if self._gone.is_set():  # the launch was given up
            return
        self._cancel_timer()
        self._freezer.close()
        self._output.flush()
        work = self._work
        failure = None
        if work is not None:
            if not self.responded:
                own = self._init_failure and report.of_request(self._init_failure, work.request_id)
                exited = report.exited(work.request_id, status)
                if not own:
                    self._output.add(report.error_line(exited))
                self._answer(work, own or exited, "Unhandled")
            stopped = report.STOPPED if self._stopping else ""
            self._finish(work, self._ended_as or stopped or report.exit_reason(status))
        elif not self._initialised:
            failure = self._init_failure or report.exited("", status)
            init_ms = (time.perf_counter() - self._began) * 1000
            self._output.init_fails(init_ms, report.error_type(failure))
        self._journal.record(
            "environment.stopped",
            function=self._spec.name,
            status=status,
            reason=self._killed_as or ("stopped" if self._stopping else "exited"),
        )
        if self._server is not None:
            self._server.close()
        self._gone.set()
        if self._stopping:
            return
        if self._took_too_long:
            self._took_too_long = False
            self._process = self._runtime = None
            self._extensions = Extensions(self._spec)
            self._killed_as = ""
            self._offer()
        else:
            self._owner.gone(self, failure)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._limit.watch(None)
