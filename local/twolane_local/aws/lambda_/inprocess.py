"""An in-process execution environment: the handler is called on a thread of this process.

For debuggers and tests: a breakpoint stops, a coverage run sees the handler. The environment
variables are the process's own, so a variable that differs between two functions has the value of
the function that was invoked last; what must not leak belongs in an isolated environment.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import io
import json
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
from typing import TYPE_CHECKING, Any, TextIO

from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.isolated import INIT_LIMIT_S
from twolane_local.aws.lambda_.whereabouts import said
from twolane_local.journal import log_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.aws.lambda_.environment import Owner, Work
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


#: The function and request of the thread or task that writes; ``None`` outside of functions.
current: ContextVar[tuple[str, str | None] | None] = ContextVar("twolane_current", default=None)


class Capture(io.TextIOBase):
    """Stands in front of one of the process's streams."""

    def __init__(self, stream: TextIO, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._journal = journal
        self._loop = loop

    def write(self, text: str) -> int:
        writer = current.get()
        if writer is None or not text.startswith("{") or not text.endswith("}\n"):
            return self._stream.write(text)
        for line in text.splitlines():
            self._loop.call_soon_threadsafe(
                log_lines.record, self._journal, writer[0], writer[1], line.encode()
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


@contextmanager
def captured(journal: Journal, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Capture both streams until the end of the block."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Capture(out, journal, loop), Capture(err, journal, loop)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class DaemonExecutor(Executor):
    """The standard library's waits for its threads when the interpreter ends: one that hangs would
    hold up Ctrl-C.
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
            except BaseException as error:  # noqa: BLE001 (handed to whoever waits)
                future.set_exception(error)
            del future, call, item

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """What has begun is not waited for."""
        del wait, cancel_futures
        self._closed = True
        self._calls.put(None)


#: Packages that import in a circle, as Celery and kombu do, cannot be imported by two threads at
#: once: one of them meets a module that is half there.
_IMPORTING = threading.Lock()
#: How long the end of an environment waits for the application's shutdown, at most; and where an
#: invocation is before it, which nothing can end.
_SHUTDOWN_S, _BUSY_S = 5.0, 0.5


@dataclass(frozen=True)
class Context:
    """What a handler gets beside the event.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    aws_request_id: str
    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: str
    deadline: float  # time.monotonic()
    function_version: str = "$LATEST"
    log_group_name: str = ""
    log_stream_name: str = "local"
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds to the function's timeout."""
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
    ) -> None:
        self._spec = spec
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
        self._hung = False  # in a handler that does not return
        self._loading, self._working = True, False
        self._offered = False  # before its init was over
        self._failure = b""
        self._limit: asyncio.TimerHandle | None = None
        self.responded = False

    def start(self) -> None:
        began = time.perf_counter()
        future = self._loop.run_in_executor(self._thread, self._load)
        future.add_done_callback(lambda done: self._loaded(done, began))
        if self._enforce_timeout:
            self._limit = self._loop.call_later(INIT_LIMIT_S, self._too_long)

    def _too_long(self) -> None:
        """A thread cannot be ended: it goes on, and what is invoked waits for it."""
        self._offered = True
        place = said(self._frames(), self._spec.code_dir)
        self._journal.record(
            "log", function=self._spec.name, request_id=None,
            line=f"! its init took more than {INIT_LIMIT_S:g} s"
            + (f" (it is in {place})" if place else "")
            + "; it goes on, and each invocation waits for it, within its timeout of "
            f"{self._spec.timeout_s:g} s",
        )  # fmt: skip
        if not self._stopped:
            self._owner.freed(self)

    async def where(self) -> str:
        return said(self._frames(), self._spec.code_dir)

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
            if self._stopped:  # nobody is left to do it
                self._handler_loop.close()

    def _import(self) -> None:
        current.set((self._spec.name, None))
        # On Lambda handlers run on the main thread, which has an event loop for whoever asks.
        asyncio.set_event_loop(self._handler_loop)
        self._enter()
        for folder in reversed(self._spec.python_path):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        module, _, name = self._spec.handler.rpartition(".")
        with _IMPORTING:
            self._handler = getattr(importlib.import_module(module.replace("/", ".")), name)

    def _enter(self) -> None:
        os.environ.update(self._environ)

    def _loaded(self, done: asyncio.Future[None], began: float) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            if not self._offered:
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
        work.record.started(cold=self._cold, payload=work.event)
        began = time.perf_counter()
        context = Context(
            aws_request_id=work.request_id,
            function_name=self._spec.name,
            invoked_function_arn=work.invoked_arn or self._spec.arn,
            memory_limit_in_mb=str(self._spec.memory_mb),
            deadline=time.monotonic() + self._spec.timeout_s,
            log_group_name=f"/aws/lambda/{self._spec.name}",
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
            if self._stopped and self._hung:  # nobody is left to do it
                self._handler_loop.close()

    def _call(self, work: Work, context: Context) -> tuple[bytes, str | None]:
        if self._handler is None:
            if self._failure:  # since it was offered
                return self._failure, "Unhandled"
            raise RuntimeError("the environment is not free")
        current.set((self._spec.name, context.aws_request_id))
        self._enter()
        os.environ["_X_AMZN_TRACE_ID"] = work.trace_id
        try:
            result = self._handler(json.loads(work.event), context)
        except Exception as error:  # noqa: BLE001 (a function's own error is a result)
            return error_object(error, context.aws_request_id), "Unhandled"
        try:
            return json.dumps(result, ensure_ascii=False).encode(), None
        except (TypeError, ValueError) as error:
            # As the runtime client words it.
            message = f"Unable to marshal response: {error}"
            return report.error("Runtime.MarshalError", message), "Unhandled"

    def _ended(self, work: Work, outcome: tuple[bytes, str | None], began: float) -> None:
        payload, error = outcome
        duration = (time.perf_counter() - began) * 1000
        figures = self._figures(duration)
        work.record.responded(duration, error, payload)
        if not work.done.done():
            work.done.set_result(
                Invocation(
                    work.request_id,
                    payload,
                    error,
                    partial(report.tail, tuple(work.log), work.request_id, figures),
                    self._cold,
                    duration,
                )
            )
        work.record.ended(figures)
        self._cold = False
        if not self._stopped:
            self._owner.freed(self)

    def _exited(self, work: Work, error: BaseException, began: float) -> None:
        """The handler raised what is no error of its own, as ``sys.exit`` does: on Lambda that
        ends the process.
        """
        duration = (time.perf_counter() - began) * 1000
        status = exit_status(error)
        payload = report.exited(work.request_id, status)
        work.record.responded(duration, "Unhandled", payload)
        work.record.ended(self._figures(duration), report.why_exited(status))
        if not work.done.done():
            work.done.set_result(Invocation(work.request_id, payload, "Unhandled"))
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
        """Answer for it; a thread cannot be killed, so it stays busy until it returns."""
        self._hung = True
        timeout_s = self._spec.timeout_s
        payload = report.timed_out(work.request_id, timeout_s)
        work.record.responded(timeout_s * 1000, "Unhandled", payload)
        work.record.ended(self._figures(timeout_s * 1000), f"timed out after {timeout_s:g} s")
        if not work.done.done():
            work.done.set_result(Invocation(work.request_id, payload, "Unhandled"))

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
        self._end()

    def _end(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if not (self._hung or self._loading):
            self._handler_loop.close()


def exit_status(error: BaseException) -> int:
    """Of a process that ends by it, as Python says it."""
    if not isinstance(error, SystemExit):
        return 1
    return error.code if isinstance(error.code, int) else int(error.code is not None)


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
    """As the runtime client words it, with the trace of whatever the module itself raised."""
    module, _, name = handler.rpartition(".")
    if isinstance(error, ImportError):
        return report.import_failed(module, error)
    if isinstance(error, AttributeError) and getattr(error, "name", None) == name:
        return report.error(
            "Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module}'"
        )
    return error_object(error, "")
