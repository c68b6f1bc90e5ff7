"""The time that a call to a store may take: never longer than the invocation still has.

A store that has vanished (a dropped connection, a broken route) does not answer at all, and the
clients wait for it: Celery's for Redis 120 s, boto3 a minute for each of its attempts. Inside an
invocation, and in init, each call gets half of the time that is left and five seconds at most, so
that there is always time for the next one and for the answer. Elsewhere the clients keep their own
limits.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The time at which the invocation must have answered, on ``time.monotonic()``'s clock; ``None``
#: outside of one. Its adapter sets it.
deadline: ContextVar[float | None] = ContextVar("twolane_deadline", default=None)


#: The longest wait for one answer, in seconds, where the application has set none: redis-py's own.
LONGEST_S = 5.0
#: What is kept of the invocation's time for the answer.
RESERVE_S = 0.1
#: A call is made even where no time is left: stores answer in less, and what a batch has done is
#: worth an attempt to say so.
LEAST_S = 0.05


def sleep(seconds: float) -> None:
    """``time.sleep`` as it is now: a default argument would keep the one that import found."""
    time.sleep(seconds)


def left_s() -> float | None:
    """The time that is left for calls; ``None`` outside of an invocation."""
    ends = deadline.get()
    return None if ends is None else max(0.0, ends - RESERVE_S - time.monotonic())


def limit_s(longest: float = LONGEST_S) -> float | None:
    """The limit of the next call; ``None`` outside of an invocation."""
    left = left_s()
    return None if left is None else max(LEAST_S, min(longest, left / 2))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Inside, calls together take no longer."""
    token = deadline.set(time.monotonic() + seconds + RESERVE_S)
    try:
        yield
    finally:
        deadline.reset(token)
