"""A pool of one: it runs the task at once, in this thread, within its time limits."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback  # type: ignore[attr-defined]
from billiard.exceptions import Terminated, WorkerLostError
from celery.concurrency.base import BasePool
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from twolane.worker.afterwards import body_has_ended, is_traced, record_failure, settle
from twolane.worker.limits import (
    Alarms,
    DeadlineReached,
    HardLimitReached,
    TaskTerminated,
    limits,
)
from twolane.worker.outage import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twolane.worker.deadline import Deadline
    from twolane.worker.watch import Watch


logger = logging.getLogger("twolane.worker")


class Ran(NamedTuple):
    """How one run ended: succeeded, failed, retried, rejected, ignored, lost or terminated."""

    ending: str
    runtime_s: float
    error: BaseException | None = None


_ENDINGS: tuple[tuple[type[BaseException], str], ...] = (
    (Retry, "retried"),
    (Reject, "rejected"),
    (Ignore, "ignored"),
)


class Pool(BasePool):
    """What Celery's requests are executed on.

    An error *under* the task (a result store that is down, say) is not a result: it is raised to
    the caller, who returns the message. What else goes wrong once the body has ended is the end of
    the task: see ``twolane.worker.afterwards``.
    """

    body_can_be_buffer = True
    watch: Watch | None = None
    deadline: Deadline | None = None

    #: Asked for once a batch, not for each task: it is a system call.
    _pid = os.getpid()
    _last_alarms: Alarms = []  # noqa: RUF012 - replaced with each batch, never changed

    #: How the last run ended; ``None`` if nothing has run since it was taken.
    ran: Ran | None = None

    def begin_batch(self, deadline: Deadline | None) -> None:
        """What holds for every task of a batch."""
        self.deadline = deadline
        self._last_alarms = (
            [(deadline.soft, SoftTimeLimitExceeded), (deadline.lost, DeadlineReached)]
            if deadline is not None
            else []
        )
        self._pid = os.getpid()

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
        correlation_id: str = "",
        **_: Any,
    ) -> None:
        started = time.monotonic()
        request: Any = getattr(accept_callback, "__self__", None)  # Celery's
        accept_callback(self._pid, started)
        try:
            with limits(self._alarms(started, soft_timeout, timeout)) as interrupter:
                if self.watch is not None:
                    self.watch.begin(correlation_id, interrupter)
                result = target(*_decoded(args, request), **(kwargs or {}))
        except HardLimitReached as error:
            self.ran = Ran("failed", time.monotonic() - started, error)
            settle(request, timeout_callback, False, timeout)  # Celery's signature: soft, timeout
        except Exception as error:
            self.ran = Ran("broken", time.monotonic() - started)
            if not is_traced(error) or trouble_of(error) is not Trouble.NONE:
                raise
            self.ran = Ran("failed", self.ran.runtime_s, error)
            self._fail(request, error)
        except BaseException as error:  # noqa: BLE001 - handed to Celery, which decides
            ending = "terminated" if isinstance(error, TaskTerminated) else "lost"
            self.ran = Ran(ending, time.monotonic() - started, error)
            self._lose(request, error)
        else:
            self.ran = _ran(result, time.monotonic() - started)
            if soft_timeout and isinstance(self.ran.error, SoftTimeLimitExceeded):
                timeout_callback(True, soft_timeout)
            if isinstance(self.ran.error, MemoryError):
                # Celery ends its worker here. The failure is recorded; the batch can go on.
                result[1].exception = RuntimeError("the task ran out of memory")
            settle(request, callback, result)
        finally:
            if self.watch is not None:
                self.watch.end()

    def _fail(self, request: Any, error: BaseException) -> None:
        """An error that comes after the task's body, and that Celery could not record."""
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
        """What a stock worker would not have survived."""
        loss = _as_worker_loss(error)
        ours = isinstance(error, TaskTerminated | DeadlineReached)
        if not ours and request.task.reject_on_worker_lost and body_has_ended(error):
            self._fail(request, loss)  # Celery would return the message
        else:
            settle(request, request.on_failure, _einfo(loss))

    def take_ran(self) -> Ran | None:
        ran, self.ran = self.ran, None
        return ran

    def _alarms(self, started: float, soft: float | None, hard: float | None) -> Alarms:
        alarms = self._last_alarms.copy()
        if soft:
            alarms.append((started + soft, SoftTimeLimitExceeded))
        if hard:
            alarms.append((started + hard, HardLimitReached))
        return alarms

    def _get_info(self) -> dict[str, Any]:
        return {
            **super()._get_info(),  # type: ignore[misc]
            "max-concurrency": 1,
            "processes": [os.getpid()],
            "max-tasks-per-child": None,
            "put-guarded-by-semaphore": True,
            "timeouts": (),
        }

    @property
    def num_processes(self) -> int:
        return 1


def _decoded(args: Sequence[Any], request: Any) -> Sequence[Any]:
    """The tracer's arguments with the body as Celery's request has decoded it.

    Celery decodes each message twice, as its tracer runs in another process; with no content type
    the tracer takes the body as it is.
    """
    message = getattr(request, "message", None)
    if message is None or len(args) != 6 or args[4] is None:
        return args
    return (*args[:3], message.payload, None, None)


def _ran(result: tuple[int, Any, float | None], elapsed_s: float) -> Ran:
    failed, value, runtime = result
    if not failed:
        return Ran("succeeded", elapsed_s if runtime is None else runtime)
    error = value.exception
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    for kind, ending in _ENDINGS:
        if isinstance(error, kind):
            return Ran(ending, elapsed_s, error)
    return Ran("failed", elapsed_s, error)


def _as_worker_loss(error: BaseException) -> BaseException:
    """What Celery would have seen, had the task brought a worker process down."""
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
