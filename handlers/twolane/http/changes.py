"""Waiting for a task on behalf of a client: ``Prefer: wait=N``, and server-sent events.

Both look at the result backend again and again, as a polling client does, only nearer to it.

If the platform streams (uvicorn, a container), the connection of a client of events stays open
until the task is finished. Lambda behind API Gateway answers in one piece: there the stream holds
the changes that are known now and ends, and the browser's ``EventSource`` comes again by itself
after ``retry``: polling, with no change to the client.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

from twolane.environment.invocation import deadline
from twolane.environment.logs import emit
from twolane.errors import StoreUnavailableError
from twolane.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from twolane.http.tasks import TaskStatus

    Look = Callable[[], Awaitable[TaskStatus]]
    Sleep = Callable[[float], Awaitable[object]]
    from collections.abc import MutableMapping
    from typing import Any

    from twolane.http.tasks import TaskStatus

#: The longest wait that a client gets, in seconds: API Gateway gives a request 29 in all.
MAX_WAIT_S = 20.0
#: What is kept of an invocation's time for the answer.
RESERVE_S = 1.0
#: Between two looks: soon at first, for tasks that take a moment, then once in a while.
FIRST_LOOK_S = 0.05
LAST_LOOK_S = 1.0

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", re.IGNORECASE)


def preferred_wait(prefer: str | None) -> float | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240, 4.3), capped; ``None`` where it does not say."""
    found = _WAIT.search(prefer or "")
    return None if found is None else min(float(found[1]), MAX_WAIT_S)


async def changes(
    look: Look,
    seconds: float,
    *,
    sleep: Sleep = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[TaskStatus]:
    """The status now and each other one, until it is finished, for ``seconds`` at most."""
    ends = monotonic() + seconds
    invocation = deadline.get()
    if invocation is not None:
        ends = min(ends, invocation - RESERVE_S)
    status = await look()
    yield status
    pause = FIRST_LOOK_S
    while not status.finished and (left := ends - monotonic()) > 0:
        await sleep(min(pause, left))
        pause = min(pause * 1.5, LAST_LOOK_S)
        latest = await look()
        if latest != status:
            status = latest
            yield status


async def last_change(status: TaskStatus, look: Look, seconds: float) -> TaskStatus:
    """``status``, or what has become of it when it is finished or ``seconds`` are over."""
    if not status.finished:
        async for latest in changes(look, seconds):
            status = latest
    return status


logger = logging.getLogger("twolane.http")

#: How long one stream lasts; ``EventSource`` opens the next.
STREAM_S = 300.0
RETRY_MS = 2000

#: The id of the last event; who comes back with it needs nothing more.
END_ID = "end"

HEADERS = {
    "cache-control": "no-store",
    # nginx holds a stream back unless it is told not to.
    "x-accel-buffering": "no",
}


def streams(scope: MutableMapping[str, Any]) -> bool:
    """True if a body leaves as it is sent. Mangum's scope carries Lambda's event, and buffers."""
    return "aws.event" not in scope


async def task_events(look: Look, *, streaming: bool) -> AsyncIterator[str]:
    """The text of the stream: one ``status`` event for each change, ``end`` after the last."""
    yield f"retry: {RETRY_MS}\n\n"
    try:
        async for status in changes(look, STREAM_S if streaming else 0.0):
            yield _event("status", status)
            if status.finished:
                yield f"id: {END_ID}\n{_event('end', status)}"
    except (Problem, StoreUnavailableError) as exc:
        # The status line is long gone: the client learns it when it comes again.
        emit(logger, "log", f"A stream of task events ends early: {exc}", level=logging.WARNING)


def _event(name: str, status: TaskStatus) -> str:
    # The JSON is one line: line breaks in it are escaped.
    return f"event: {name}\ndata: {status.model_dump_json()}\n\n"
