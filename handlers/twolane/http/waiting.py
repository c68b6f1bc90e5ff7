"""Waiting for a task on behalf of a client: ``Prefer: wait=N``, and events.

Both look at the result backend again and again, as a polling client does, only nearer to it.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from twolane.invocation import deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from twolane.http.status import TaskStatus

    Look = Callable[[], Awaitable[TaskStatus]]
    Sleep = Callable[[float], Awaitable[object]]

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
    """The status now, and each that differs from the last, until the task is finished.

    Ends after ``seconds``, or when the invocation's own time is about to.
    """
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
