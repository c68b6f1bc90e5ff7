"""The request that a task comes from, carried on its message.

Three headers stand on every message that is published while something is known:
``twolane_request_id``, the id of the invocation that started it all, ``twolane_trace_id``, X-Ray's
trace header, and ``twolane_published_at``. A task that publishes others hands on the two ids that
it was given, so a whole chain, retries included, is found by the one request. Log lines of the
worker carry the first as ``originRequestId``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import signals

from twolane.logs import correlation
from twolane.publish.descent import running
from twolane.publish.times import PUBLISHED_AT, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_ID = "twolane_request_id"
TRACE_ID = "twolane_trace_id"


def outgoing(known: Mapping[str, str]) -> dict[str, str]:
    """The headers for what ``logs.correlation`` knows."""
    origin = known.get("originRequestId") or known.get("requestId")
    found = {REQUEST_ID: origin, TRACE_ID: known.get("traceId")}
    return {name: value for name, value in found.items() if value}


def incoming(headers: Mapping[str, Any]) -> dict[str, str]:
    """What ``logs.correlation`` is to know while the task with these headers runs."""
    found = {"originRequestId": headers.get(REQUEST_ID), "traceId": headers.get(TRACE_ID)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _before_publish(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is None:
        return
    if (task := running.get()) is not None:
        # A retry brings its own along, which are those of the try before it.
        line, own = task
        headers.update(line(own))
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
