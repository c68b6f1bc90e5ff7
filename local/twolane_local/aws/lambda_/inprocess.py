"""An in-process execution environment: the handler is called on a thread of this process.

For debuggers and tests: a breakpoint stops, and a coverage run sees the handler. The environment
variables are those of the process, so a variable that differs between two functions has the value
for the function that was invoked last. Use isolated environments if that matters.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import io
import json
import logging
import os
import sys
import threading
import time
import traceback
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, cast

from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.framed_log import CHANNEL
from twolane_local.aws.lambda_.isolated import INIT_LIMIT_S
from twolane_local.aws.lambda_.output import Output
from twolane_local.aws.lambda_.report import ERROR, SUCCESS, TIMEOUT
from twolane_local.aws.lambda_.stack_dump import position
from twolane_local.journal import record_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.aws.lambda_.environment import Owner, Work
    from twolane_local.aws.lambda_.output import Sink
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


class Writer(NamedTuple):
    """The function that writes, and its request id."""

    function: str
    request_id: str | None
    output: Output | None = None


#: The writer of the current thread or task; ``None`` outside of functions.
current: ContextVar[Writer | None] = ContextVar("twolane_current", default=None)


class CapturedStream(io.TextIOBase):
    """Wraps stdout or stderr: JSON lines of functions go to the journal, all else to the stream."""

    def __init__(self, stream: TextIO, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._journal = journal
        self._loop = loop

    def write(self, text: str) -> int:
        writer = current.get()
        if writer is None:
            return self._stream.write(text)
        if writer.output is not None:
            data = text.encode("utf-8", "backslashreplace")
            self._loop.call_soon_threadsafe(writer.output.lines, data)
        if not text.startswith("{") or not text.endswith("}\n"):
            return self._stream.write(text)
        for line in text.splitlines():
            self._loop.call_soon_threadsafe(
                record_line, self._journal, writer.function, writer.request_id, line.encode()
            )
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


class _LambdaHandler(logging.StreamHandler[TextIO]):
    """The log handler that Lambda's runtime client sets, with its format: applications that find it
    on the root logger add none, as on Lambda.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        formatter = logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s",
            "%Y-%m-%dT%H:%M:%S",
            defaults={"aws_request_id": ""},
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def format(self, record: logging.LogRecord) -> str:
        writer = current.get()
        record.aws_request_id = (writer and writer.request_id) or ""
        return super().format(record)


@contextmanager
def captured(journal: Journal, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Capture stdout, stderr, the log and the runtime's events within the block."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = CapturedStream(out, journal, loop), CapturedStream(err, journal, loop)
    channel: Any = ModuleType(CHANNEL)
    channel.event = partial(_event, loop)
    before = sys.modules.get(CHANNEL)
    sys.modules[CHANNEL] = channel
    loggers = [logging.getLogger(), logging.getLogger("twolane")]
    were = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    loggers[0].addHandler(_LambdaHandler(cast("TextIO", sys.stdout)))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        for each, level, handlers, propagate in were:
            each.setLevel(level)
            each.handlers[:], each.propagate = handlers, propagate
        sys.modules.pop(CHANNEL, None)
        if before is not None:
            sys.modules[CHANNEL] = before


def _event(loop: asyncio.AbstractEventLoop, line: str, logged: str | None) -> bool:
    """Take an event of the runtime, unless it is of no function's own thread."""
    writer = current.get()
    if writer is None or writer.output is None:
        return False
    record = partial(writer.output.event, line.encode(), writer.request_id)
    loop.call_soon_threadsafe(partial(record, logged=None if logged is None else logged.encode()))
    return True


class DaemonExecutor(Executor):
    """Runs calls on one daemon thread.

    The standard library's executors wait for their threads at exit, so one that hangs would block
    Ctrl-C.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._closed:
            raise RuntimeError("the executor is shut down")
        future: Future[Any] = Future()
        self._calls.put((future, lambda: call(*args, **kwargs)))
        return future

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if self._closed and future.cancel():
                continue
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (raised to the caller)
                future.set_exception(error)
            del future, call, item

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread after the running call, without waiting for it."""
        del wait, cancel_futures
        self._closed = True
        self._calls.put(None)


#: Packages with import circles, such as Celery and kombu, cannot be imported by two threads at
#: once: one of them would see a partly initialised module.
_IMPORTING = threading.Lock()
#: The longest wait for the application's shutdown, and the wait if an invocation is still running.
_SHUTDOWN_S, _BUSY_S = 5.0, 0.5


@dataclass(frozen=True)
class Context:
    """The context object of a handler.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    aws_request_id: str
    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: str
    deadline: float  # time.monotonic()
    function_version: str = "$LATEST"
    log_group_name: str = ""
    log_stream_name: str = ""
    identity: None = None
    client_context: None = None
    tenant_id: str | None = None

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


class InProcessEnvironment:
    """Implements ``Environment``; one thread, so that the handler sees one invocation at a time."""

    def __init__(
        self,
        spec: FunctionSpec,
        environ: Mapping[str, str],
        *,
        owner: Owner,
        journal: Journal,
        enforce_timeout: bool = True,
        log: Sink | None = None,
    ) -> None:
        self._spec = spec
        self._output = Output(journal, spec, log, on_terminal=True)
        self._environ = environ
        self._owner = owner
        self._journal = journal
        self._enforce_timeout = enforce_timeout
        self._loop = asyncio.get_running_loop()
        self._thread = DaemonExecutor(spec.name)
        self._handler: Callable[[Any, Context], Any] | None = None
        self._cold = True
        self._stopped = False
        self._handler_loop = asyncio.new_event_loop()
        self._memory = report.Memory()
        self._hung = False  # the handler does not return
        self._loading, self._working = True, False
        self._offered = False  # freed before its init was over
        self._failure = b""
        self._limit: asyncio.TimerHandle | None = None
        self.responded = False

    def start(self) -> None:
        self._output.init_begins()
        began = time.perf_counter()
        future = self._loop.run_in_executor(self._thread, self._load)
        future.add_done_callback(lambda done: self._loaded(done, began))
        if self._enforce_timeout:
            self._limit = self._loop.call_later(INIT_LIMIT_S, self._too_long)

    def _too_long(self) -> None:
        """Free the environment: its thread cannot be ended, so invocations wait for the init."""
        self._offered = True
        place = position(self._frames(), self._spec.code_dir)
        self._journal.record(
            "log", function=self._spec.name, request_id=None,
            line=f"! its init took more than {INIT_LIMIT_S:g} s"
            + (f" (it is in {place})" if place else "")
            + "; it continues, and each invocation waits for it, within its timeout of "
            f"{self._spec.timeout_s:g} s",
        )  # fmt: skip
        if not self._stopped:
            self._owner.freed(self)

    def refuse(self, work: Work, failure: bytes) -> Invocation:
        return self._output.refuse(work, failure, self._spec.memory_mb)

    async def where(self) -> str:
        return position(self._frames(), self._spec.code_dir)

    def _frames(self) -> list[tuple[str, int, str]]:
        frame = sys._current_frames().get(self._thread.thread.ident or 0)  # noqa: SLF001
        stack = reversed(traceback.extract_stack(frame)) if frame is not None else ()
        return [(each.filename, each.lineno or 0, each.name) for each in stack]

    def _load(self) -> None:
        try:
            self._import()
        except BaseException as error:
            self._failure = load_error(self._spec.handler, error)
            raise
        finally:
            self._loading = False
            if self._stopped:  # ``_end`` has left it open
                self._handler_loop.close()

    def _import(self) -> None:
        current.set(Writer(self._spec.name, None, self._output))
        # On Lambda handlers run on the main thread, which has an event loop.
        asyncio.set_event_loop(self._handler_loop)
        os.environ.update(self._environ)
        for folder in reversed(self._spec.python_path):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        module, _, name = self._spec.handler.rpartition(".")
        with _IMPORTING:
            self._handler = getattr(importlib.import_module(module.replace("/", ".")), name)

    def _loaded(self, done: asyncio.Future[None], began: float) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            if not self._offered:
                self._output.flush()
                self._output.failure(failure_line(self._failure))
                self._end()
                self._owner.gone(self, self._failure)
            return
        self._journal.record(
            "environment.started",
            function=self._spec.name,
            initMs=round((time.perf_counter() - began) * 1000, 2),
        )
        if not (self._stopped or self._offered):
            self._owner.freed(self)

    def begin(self, work: Work) -> None:
        self.responded = False
        self._working = True
        work.deadline_ms = int((time.time() + self._spec.timeout_s) * 1000)
        self._output.begins(work)
        work.record.started(cold=self._cold, payload=work.event)
        began = time.perf_counter()
        context = Context(
            aws_request_id=work.request_id,
            function_name=self._spec.name,
            invoked_function_arn=work.invoked_arn or self._spec.arn,
            memory_limit_in_mb=str(self._spec.memory_mb),
            deadline=time.monotonic() + self._spec.timeout_s,
            log_group_name=self._spec.log_group_name,
            log_stream_name=self._environ.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
            tenant_id=work.tenant_id or None,
        )
        timer = (
            self._loop.call_later(self._spec.timeout_s, self._timed_out, work)
            if self._enforce_timeout
            else None
        )
        variables = contextvars.copy_context()
        future = self._loop.run_in_executor(self._thread, variables.run, self._work, work, context)

        def ended(done: asyncio.Future[tuple[bytes, str | None]]) -> None:
            if timer is not None:
                timer.cancel()
            self._hung = self._working = False
            if done.cancelled():  # stopped before its turn came
                return
            if (error := done.exception()) is not None:
                self._exited(work, error, began)
                return
            self._ended(work, done.result(), began)

        future.add_done_callback(ended)

    def _work(self, work: Work, context: Context) -> tuple[bytes, str | None]:
        try:
            return self._call(work, context)
        finally:
            if self._stopped and self._hung:  # ``_end`` has left it open
                self._handler_loop.close()

    def _call(self, work: Work, context: Context) -> tuple[bytes, str | None]:
        if self._handler is None:
            if self._failure:  # the init failed after the environment was freed
                return self._failure, "Unhandled"
            raise RuntimeError("the environment is not free")
        current.set(Writer(self._spec.name, context.aws_request_id, self._output))
        os.environ.update(self._environ)
        os.environ["_X_AMZN_TRACE_ID"] = work.trace_id
        try:
            result = self._handler(json.loads(work.event), context)
        except Exception as error:  # noqa: BLE001 (a function's own error is a result)
            return error_object(error, context.aws_request_id), "Unhandled"
        try:
            return json.dumps(result, ensure_ascii=False).encode(), None
        except (TypeError, ValueError) as error:
            # The runtime client's own text.
            message = f"Unable to marshal response: {error}"
            return report.error("Runtime.MarshalError", message), "Unhandled"

    def _ended(self, work: Work, outcome: tuple[bytes, str | None], began: float) -> None:
        payload, error = outcome
        duration = (time.perf_counter() - began) * 1000
        figures = self._figures(duration)
        if error is not None:
            self._output.failure(failure_line(payload))
        self._output.flush()
        work.record.responded(duration, error, payload)
        kind = report.error_type(payload) if error is not None else ""
        status = SUCCESS if error is None else ERROR
        if not work.done.done():
            shown = payload if error is None else self._output.shown(payload)
            tail = self._output.tail(work, figures, status, kind)
            work.done.set_result(
                Invocation(work.request_id, shown, error, tail, self._cold, duration)
            )
        self._output.ends(figures, status, kind)
        work.record.ended(figures)
        self._cold = False
        if not self._stopped:
            self._owner.freed(self)

    def _exited(self, work: Work, error: BaseException, began: float) -> None:
        """The handler raised a ``BaseException``, as ``sys.exit`` does: Lambda ends the process."""
        duration = (time.perf_counter() - began) * 1000
        status = exit_status(error)
        payload = report.exited(work.request_id, status)
        self._output.add(report.error_line(payload))
        figures = self._figures(duration)
        self._give_up(work, payload, figures, ERROR)
        work.record.responded(duration, "Unhandled", payload)
        work.record.ended(figures, report.exit_reason(status))
        if not self._stopped:
            self._end()
            self._journal.record(
                "environment.stopped", function=self._spec.name, status=status, reason="exited"
            )
            self._owner.gone(self, None)

    def _figures(self, duration_ms: float) -> report.Report:
        return report.Report(
            duration_ms=duration_ms,
            memory_mb=self._spec.memory_mb,
            max_memory_mb=self._memory.peak_mb(os.getpid()),
            init_ms=None,
        )

    def _timed_out(self, work: Work) -> None:
        """Answer the invocation; its thread cannot be killed, and is busy until it returns."""
        self._hung = True
        timeout_s = self._spec.timeout_s
        payload = report.timed_out(work.request_id, timeout_s)
        figures = self._figures(timeout_s * 1000)
        self._output.times_out(timeout_s)
        work.record.responded(timeout_s * 1000, "Unhandled", payload)
        work.record.ended(figures, f"timed out after {timeout_s:g} s")
        self._give_up(work, payload, figures, TIMEOUT)

    def _give_up(self, work: Work, payload: bytes, figures: report.Report, status: str) -> None:
        """Answer an invocation that Lambda has ended."""
        kind = report.error_type(payload)
        if not work.done.done():
            tail = self._output.tail(work, figures, status, kind)
            work.done.set_result(Invocation(work.request_id, payload, "Unhandled", tail))
        self._output.ends(figures, status, kind)

    async def stop(self) -> None:
        self._stopped = True
        if self._limit is not None:
            self._limit.cancel()
        close = getattr(self._handler, "close", None)
        if callable(close) and not self._hung:  # ApiHandler's: it runs the application's shutdown
            closing = self._loop.run_in_executor(self._thread, close)
            _, late = await asyncio.wait(
                [closing], timeout=_BUSY_S if self._working else _SHUTDOWN_S
            )
            self._hung = bool(late)
            if not late and (error := closing.exception()) is not None:
                self._output.failure(failure_line(error_object(error, "")))
        self._end()

    def _end(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if not (self._hung or self._loading):
            self._handler_loop.close()


def exit_status(error: BaseException) -> int:
    """The exit status of a process that this exception ends."""
    if not isinstance(error, SystemExit):
        return 1
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def failure_line(payload: bytes) -> bytes:
    """The log line of an error object, as the runtime client writes it."""
    try:
        value = json.loads(payload)
        head = f"[ERROR] {value['errorType']}: {value['errorMessage']}"
        trace = "".join(value.get("stackTrace") or ())
    except (ValueError, KeyError, TypeError):
        return b"[ERROR] " + payload + b"\n"
    if trace:
        head += f"\nTraceback (most recent call last):\n{trace.rstrip()}"
    return f"{head}\n".encode("utf-8", "backslashreplace")


def error_object(error: BaseException, request_id: str) -> bytes:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    return json.dumps(
        {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "requestId": request_id,
            "stackTrace": traceback.format_list(frames),
        }
    ).encode()


def load_error(handler: str, error: BaseException) -> bytes:
    """The runtime client's error object for a handler that does not load."""
    module, _, name = handler.rpartition(".")
    if isinstance(error, ImportError):
        return report.import_failed(module, error)
    if isinstance(error, AttributeError) and getattr(error, "name", None) == name:
        return report.error(
            "Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module}'"
        )
    return error_object(error, "")
