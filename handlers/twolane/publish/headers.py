"""The headers that twolane puts on every message that Celery publishes.

**The request that a task comes from**: ``twolane_request_id``, the id of the invocation that
started it all, ``twolane_trace_id``, X-Ray's trace header, and ``twolane_published_at``. A task
that publishes others hands on the two ids that it was given, so a whole chain, retries included, is
found by the one request. Log lines of the worker carry the first as ``originRequestId``.

**The descent of a task**, of any that another task publishes, be it a retry, the next of a chain, a
chord's body or itself once more: ``twolane_depth``, the number of tasks between it and the first,
and ``twolane_depth_since``, when the present window of generations began (epoch seconds). A message
that is published outside of a task has none: it is a first one.

**Times.** Celery stores when a task was done, and nothing before. The time of the publish is a
header of the message, the time of the start is on the running task's request; each state is stored
with both, for ``GET /tasks/{id}`` to show. Other readers of results ignore them.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import signals

from twolane.environment.logs import correlation
from twolane.patches.backends import STARTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REQUEST_ID = "twolane_request_id"
TRACE_ID = "twolane_trace_id"


def outgoing(known: Mapping[str, str]) -> dict[str, str]:
    """The headers for what ``logs.correlation`` knows."""
    origin = known.get("originRequestId") or known.get("requestId")
    found = {REQUEST_ID: origin, TRACE_ID: known.get("traceId")}
    return {name: value for name, value in found.items() if value}


def incoming(headers: Mapping[str, Any]) -> dict[str, str]:
    """The part of these headers that goes to ``logs.correlation`` while their task runs."""
    found = {"originRequestId": headers.get(REQUEST_ID), "traceId": headers.get(TRACE_ID)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _before_publish(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is None:
        return
    if (mark := running.get()) is not None:
        mark(headers)
    known = correlation.get()
    if known:
        for name, value in outgoing(known).items():
            headers.setdefault(name, value)
        # A retry is published anew, but it is the same task: the first time stays.
        headers.setdefault(PUBLISHED_AT, stamp(time.time()))


def install() -> None:
    """Put the headers on every message that Celery publishes, to whichever broker."""
    signals.before_task_publish.connect(
        _before_publish, weak=False, dispatch_uid="twolane.correlation"
    )


DEPTH = "twolane_depth"
SINCE = "twolane_depth_since"

#: While a task runs: marks the headers of a task that it publishes. Application code publishes
#: wherever it likes, so that no argument can carry this there.
running: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar(
    "twolane_running", default=None
)

_UID = "twolane.times"

PUBLISHED_AT = "twolane_published_at"
_STARTED_AT = "twolane_started_at"


def stamp(now: float) -> str:
    """``now``, in seconds since the epoch, as ISO 8601 in UTC to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


def times_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """The times in a stored result: ``published_at``, ``started_at``."""
    found = {"published_at": meta.get(PUBLISHED_AT), "started_at": meta.get(_STARTED_AT)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def stored_times(request: Any) -> dict[str, str]:
    """The times that are stored with a task's state: of its publish, and of its last start."""
    published, started = getattr(request, PUBLISHED_AT, None), getattr(request, STARTED, None)
    found: dict[str, str] = {}
    if isinstance(published, str):
        found[PUBLISHED_AT] = published
    if isinstance(started, float):
        found[_STARTED_AT] = stamp(started)
    return found


def _before_run(task: Any = None, **_: Any) -> None:
    setattr(task.request, STARTED, time.time())


def note_starts() -> None:
    """Note when each task of this process starts."""
    signals.task_prerun.connect(_before_run, weak=False, dispatch_uid=_UID)


def leave_starts() -> None:
    """The worker's own requests know their start, without a signal for each."""
    signals.task_prerun.disconnect(dispatch_uid=_UID)
