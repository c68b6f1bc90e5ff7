"""The pool that runs a task: at once, in this thread, within its time limits.

The task's body may fail in any way; after it has ended, errbacks, callbacks, a chord's count,
``on_failure`` and its like, signals and the encoding of the result follow. The body does not run
again because one of them fails: a stock worker has acknowledged the message by then, or does so
whatever they raise. Only a store that is down brings a message back.

A body may also change the process. ``guard_body`` looks after two changes that would reach other
tasks, before Celery learns how the body ended, and so before anything is stored, published or
answered:

- It may fork. The child comes back with a copy of all that the worker holds, and must not settle
  the message, or answer the Runtime API, a second time.
- It may close descriptors that are not its own. The number of a closed descriptor is given to the
  next one that is opened, so that bytes for the state store could reach something else.

Other changes (working directory, environment variables, umask, signal handlers, logging …) stay, as
under ``celery worker``; see docs/semantics.md.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import time
from fcntl import F_GETFL, F_SETFL, fcntl
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]
from billiard.exceptions import Terminated, WorkerLostError
from celery.app import trace
from celery.concurrency.base import BasePool
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from twolane.environment import forks
from twolane.patches.clients import Trouble, trouble_of
from twolane.patches.coroutines import awaited
from twolane.patches.versions import acks_on_failure
from twolane.worker.limits import (
    Alarms,
    Deadline,
    DeadlineReached,
    HardLimitReached,
    TaskTerminated,
    limits,
)
from twolane.worker.records import TaskEnd, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, TracebackType

    from twolane.worker.concurrency import Flight
    from twolane.worker.limits import Limits
    from twolane.worker.lookup import Watch
    from twolane.worker.records import Run

logger = logging.getLogger("twolane.worker")


_ENDS: tuple[tuple[type[BaseException], str], ...] = (
    (Retry, "retried"),
    (Reject, "rejected"),
    (Ignore, "ignored"),
)


class Call(NamedTuple):
    """One run of one task, as Celery asks the pool for it."""

    run: Run
    request: Any
    target: Callable[..., tuple[int, Any, float | None]]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    callback: Callable[..., object]
    accept_callback: Callable[..., object]
    timeout_callback: Callable[..., object]
    soft: float | None
    hard: float | None


_new: Any = tuple.__new__


class Pool(BasePool):
    """The pool on which Celery's requests are executed: at once and in the caller's thread, or
    where the run has them taken. An error *under* the task (a result store that is down) is raised
    to the caller, who returns the message; any other one after the body has ended is the end of the
    task.
    """

    body_can_be_buffer = True
    watch: Watch | None = None
    #: How many threads run ``def`` tasks; 0: the handler's runs one after the other.
    threads = 0

    def apply_async(  # type: ignore[override]
        self,
        target: Callable[..., tuple[int, Any, float | None]],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        callback: Callable[..., object],
        accept_callback: Callable[..., object],
        timeout_callback: Callable[..., object],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> None:
        # Celery passes methods of the request, and not the request itself.
        request: Any = getattr(accept_callback, "__self__", None)
        run = run_of(request.message)
        # As ``Call(…)``, without a function of Python's in between: each task comes here.
        call = _new(
            Call,
            (
                run, request, target, _decoded(args, request.message), kwargs or {}, callback,
                accept_callback, timeout_callback, soft_timeout, timeout,
            ),
        )  # fmt: skip
        if run.take is None:
            self.execute(call)
        else:
            run.take(call)

    def execute(self, call: Call, flight: Flight | None = None) -> None:
        """Run the task in this thread; the invocation's limits reach a ``flight`` by its batch."""
        deadline = call.run.deadline
        monotonic, limits_of = _waits(deadline)
        started = monotonic()
        call.accept_callback(forks.pid, started)
        watching = None
        try:
            alarms = _alarms(None if flight else deadline, started, call.soft, call.hard)
            with limits_of(alarms) as interrupter:
                if flight is not None:
                    flight.thread = interrupter
                if self.watch is not None:
                    watching = self.watch.begin(call.request.id, interrupter)
                result = call.target(*call.args, **call.kwargs)
        except BaseException as error:  # noqa: BLE001 - Celery decides
            self._raised(call, error, monotonic() - started)
        else:
            self._returned(call, result, monotonic() - started)
        finally:
            if self.watch is not None and watching is not None:
                self.watch.end(watching)

    async def execute_awaiting(self, call: Call, flight: Flight) -> None:
        """Run a coroutine task; ``flight`` is where its limits reach it."""
        monotonic, _ = _waits(call.run.deadline)
        started = monotonic()
        call.accept_callback(forks.pid, started)
        watching = None
        try:
            with flight.limits(_alarms(None, started, call.soft, call.hard), started):
                if self.watch is not None:
                    watching = self.watch.begin(call.request.id, flight)
                # In the place of the text of the result, it is the tracer's coroutine.
                _, tracing, _ = call.target(*call.args, **call.kwargs)
                result, info, runtime, text = await tracing
        except BaseException as error:  # noqa: BLE001 - Celery decides
            self._raised(call, error, monotonic() - started)
        else:
            traced = (1, result, runtime) if info else (0, text, runtime)
            self._returned(call, traced, monotonic() - started)
        finally:
            if self.watch is not None and watching is not None:
                self.watch.end(watching)

    def _returned(self, call: Call, result: tuple[int, Any, float | None], took_s: float) -> None:
        """Settle a run that Celery's tracer has returned of."""
        end = call.run.end = _end_of(result, took_s)
        if call.soft and isinstance(end.error, SoftTimeLimitExceeded):
            call.timeout_callback(True, call.soft)
        if isinstance(end.error, MemoryError):
            # Celery ends its worker here. The failure is recorded; the batch can go on.
            result[1].exception = RuntimeError("the task ran out of memory")
        settle(call.request, call.callback, result)

    def _raised(self, call: Call, error: BaseException, took_s: float) -> None:
        """Settle a run that something was raised from, or raise it again."""
        run, request = call.run, call.request
        if isinstance(error, HardLimitReached):
            run.end = TaskEnd("failed", took_s, error)
            settle(request, call.timeout_callback, False, call.hard)  # Celery's: soft, timeout
        elif isinstance(error, Exception):
            run.end = TaskEnd("broken", took_s)
            # Raised outside of Celery's tracer, the message was not even understood.
            traced = _trace_frame(error.__traceback__) is not None
            if not traced or trouble_of(error) is not Trouble.NONE:
                raise error
            run.end = TaskEnd("failed", took_s, error)
            self._fail(request, error)
        else:
            how = "terminated" if isinstance(error, TaskTerminated) else "lost"
            run.end = TaskEnd(how, took_s, error)
            self._lose(request, error)

    def _fail(self, request: Any, error: BaseException) -> None:
        """End a task with an error from after its body, which Celery could not record."""
        if isinstance(error, Reject):  # a hook's: Celery does as it says
            settle(request, request.on_failure, _einfo(error))
            return
        logger.error(
            "after the end of task %s[%s], %s was raised; the task has run, and does not run again",
            request.name, request.id, type(error).__name__, exc_info=error,
        )  # fmt: skip
        settle(request, record_failure, request, error)
        # Not as a worker's loss, nor as one that Celery ends a worker for: it is recorded.
        plain = RuntimeError(f"after the task's end: {error!r}")
        settle(request, partial(request.on_failure, return_ok=True), _einfo(plain))

    def _lose(self, request: Any, error: BaseException) -> None:
        """End a task with an error that would have ended a stock worker's process."""
        loss = _as_worker_loss(error)
        ours = isinstance(error, TaskTerminated | DeadlineReached)
        if not ours and request.task.reject_on_worker_lost and body_has_ended(error):
            self._fail(request, loss)  # Celery would return the message
        else:
            settle(request, request.on_failure, _einfo(loss))

    def _get_info(self) -> dict[str, Any]:
        return {
            **super()._get_info(),  # type: ignore[misc]
            "max-concurrency": self.limit,
            "processes": [os.getpid()],
            "max-tasks-per-child": None,
            "put-guarded-by-semaphore": True,
            "timeouts": (),
        }

    @property
    def num_processes(self) -> int:
        return 1


def _waits(deadline: Deadline | None) -> tuple[Callable[[], float], Callable[[Alarms], Limits]]:
    """The clock and the limits of the invocation: on virtual time it brings its own."""
    return (time.monotonic, limits) if deadline is None else (deadline.monotonic, deadline.limits)


def _alarms(
    deadline: Deadline | None, started: float, soft: float | None, hard: float | None
) -> Alarms:
    """The invocation's limits and the task's own, as ``limits`` takes them."""
    alarms: Alarms = []
    if deadline is not None:
        alarms = [(deadline.soft, SoftTimeLimitExceeded), (deadline.lost, DeadlineReached)]
    if soft:
        alarms.append((started + soft, SoftTimeLimitExceeded))
    if hard:
        alarms.append((started + hard, HardLimitReached))
    return alarms


def _decoded(args: Sequence[Any], message: Any) -> Sequence[Any]:
    """The tracer's arguments with the body as Celery's request has decoded it, as a stock tracer
    runs in another process. Without a content type, it takes the body as it is.
    """
    if len(args) != 6 or args[4] is None:
        return args
    return (*args[:3], message.payload, None, None)


def _end_of(result: tuple[int, Any, float | None], elapsed_s: float) -> TaskEnd:
    """How a task ended, by what Celery's tracer returned."""
    failed, value, runtime = result
    if not failed:
        return TaskEnd("succeeded", elapsed_s if runtime is None else runtime)
    error = value.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    how = next((how for kind, how in _ENDS if isinstance(error, kind)), "failed")
    return TaskEnd(how, elapsed_s, error, str(value.traceback or ""))


def _as_worker_loss(error: BaseException) -> BaseException:
    """The error that Celery sees when a task has brought a worker process down."""
    if isinstance(error, TaskTerminated):
        return Terminated(str(error) or "SIGTERM")
    if isinstance(error, DeadlineReached):
        return WorkerLostError(
            "the function's timeout came before the task's end; give the function more time, "
            "split the task, or run it on a celery worker"
        )
    return WorkerLostError(f"the task ended its worker: {error!r}")


def _einfo(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:  # noqa: BLE001 - only to give it a traceback
        return ExceptionInfo()


def settle(request: Any, call: Callable[..., object], *args: Any) -> None:
    """Let Celery end its request; raises what the store did, if that cannot be stored. Celery
    acknowledges a message before or after a failure; whatever keeps it from that, it is settled.
    """
    try:
        call(*args)
    except BaseException as error:
        if trouble_of(error) is not Trouble.NONE:
            raise
        logger.exception(
            "after the end of task %s[%s], %s was raised; the task has run, and does not run again",
            request.name, request.id, type(error).__name__,
        )  # fmt: skip
        acknowledge(request)


def record_failure(request: Any, error: BaseException) -> None:
    """Record the failure, if nothing was recorded that stands; errbacks were called before.

    Raises what the store raised, if it cannot take it.
    """
    # Of an error that cannot be encoded, at least the class is stored.
    for tried in (error, RuntimeError(f"{type(error).__name__}, which could not be stored")):
        try:
            request.task.backend.mark_as_failure(
                request.id,
                tried,
                request=request._context,  # noqa: SLF001 - what Celery's own request passes
                store_result=request.store_errors,
                call_errbacks=False,
            )
        except Exception as again:
            if trouble_of(again) is not Trouble.NONE:
                raise
            logger.exception(
                "the failure of task %s[%s] could not be recorded", request.name, request.id
            )
        else:
            return


def acknowledge(request: Any) -> None:
    """Acknowledge the message, or reject it for good where the task wants that of its failures."""
    if request.acknowledged:
        return
    task = request.task
    if task.acks_late and not acks_on_failure(task):
        request.reject(requeue=False)
    else:
        request.acknowledge()


def body_has_ended(error: BaseException) -> bool:
    """True if the task's body had ended when Celery's tracer raised this. It sets ``state`` as the
    body returns; of one that raised, at the end of ``on_error`` (celery 5.7), after hooks and
    errbacks.
    """
    found = _trace_frame(error.__traceback__)
    if found is None:
        return False
    frame, after = found
    handling = after is not None and after.tb_frame.f_code.co_name == "on_error"
    return handling or frame.f_locals.get("state") is not None


def _trace_frame(
    traceback: TracebackType | None,
) -> tuple[FrameType, TracebackType | None] | None:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name == "trace_task" and code.co_filename == trace.__file__:
            return traceback.tb_frame, traceback.tb_next
        traceback = traceback.tb_next
    return None


_MARK = "_twolane_guarded"

_MAY_AWAIT = frozenset({CoroutineType, list})

#: ``EX_SOFTWARE``: https://man.freebsd.org/cgi/man.cgi?query=sysexits
_UNSOUND = 70


@functools.cache
def _witness() -> Callable[[], bool]:
    """Make a check for descriptors that a task has closed without having opened them. It looks for
    a pipe with flags that no other descriptor has: the number alone may be another one's by now.
    """
    end, _ = os.pipe()
    fcntl(end, F_SETFL, os.O_NONBLOCK | os.O_APPEND)
    flags = fcntl(end, F_GETFL)

    def is_there() -> bool:
        try:
            return fcntl(end, F_GETFL) == flags
        except OSError:
            return False

    return is_there


def guard_body(task: Any, drive: Callable[[Any], Any]) -> None:
    """Check the process after each run of a task's body. Idempotent.

    ``drive`` runs the coroutine that a body may return that is not an ``async def`` itself.
    """
    if not hasattr(task.run, _MARK):
        task.run = _guarded(task.run, str(task.name), drive)


def check_process(name: str) -> None:
    """End this process if the task has closed descriptors that were not its own."""
    if not _witness()():
        _end_process(name)


def _guarded(run: Callable[..., Any], name: str, drive: Callable[[Any], Any]) -> Callable[..., Any]:
    is_there = _witness()

    @functools.wraps(run)
    def body(*args: Any, **kwargs: Any) -> Any:
        forked, depth, stdout, stderr = forks.count, sys.getrecursionlimit(), sys.stdout, sys.stderr
        returned = False
        try:
            result = run(*args, **kwargs)
            if type(result) in _MAY_AWAIT and (coroutine := awaited(name, result)) is not None:
                result = drive(coroutine)
            returned = True
        finally:
            if forks.count != forked:
                forks.end(None if returned else sys.exception())
            if not is_there():
                _end_process(name)
            if sys.getrecursionlimit() < depth:
                sys.setrecursionlimit(depth)  # too low for Celery, and for all that follows
            if sys.stdout is not stdout or sys.stderr is not stderr:
                _put_back()
        return result

    setattr(body, _MARK, True)
    return body


def _end_process(name: str) -> NoReturn:
    """Lambda reports ``Runtime.ExitError`` and makes a new environment."""
    forks.say(
        json.dumps(
            {
                "level": "CRITICAL",
                "logger": "twolane.worker",
                "event": "environment.unsound",
                "message": f"! {name} has closed file descriptors that it has not opened. What is "
                "written to them could now reach anything, so this environment ends without an "
                "answer; the batch is delivered again. Close only what the task has opened",
                "taskName": name,
            }
        )
    )
    os._exit(_UNSOUND)


def _put_back() -> None:
    """Put closed streams back: a closed one would take each line of the log with it."""
    for name, original in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, original)
