"""What comes after a task's body: it may fail in any way, the body does not run again for it.

Errbacks, callbacks, a chord's count, ``on_failure`` and its kin, signals, the encoding of a result:
Celery runs them all once the body has ended. A stock worker has acknowledged the message by then,
or does so whatever they raise. Here, too; only a store that is down brings a message back.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery.app import trace

from twolane.worker.outage import Trouble, trouble_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

logger = logging.getLogger("twolane.worker")


def settle(request: Any, call: Callable[..., object], *args: Any) -> None:
    """Let Celery end its request. Raises what the store raised, if it cannot store how that ended.

    Celery acknowledges a message before or after it records a failure. Whatever keeps it from
    either, the message is settled as that of a failed task.
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
    # An error that cannot be encoded may be told of, at least.
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
    if task.acks_late and not task.acks_on_failure:
        request.reject(requeue=False)
    else:
        request.acknowledge()


def is_traced(error: BaseException) -> bool:
    """Whether it was raised in Celery's tracer: under it, the message was not even understood."""
    return _trace_frame(error.__traceback__) is not None


def body_has_ended(error: BaseException) -> bool:
    """Whether the task's body had ended when this was raised out of Celery's tracer.

    The tracer sets ``state`` as the body returns. Of a body that raised, it says so only at the end
    of ``on_error``, which stores the failure and calls hooks and errbacks (celery 5.7).
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
