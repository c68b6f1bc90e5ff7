"""An ETA as SQS knows it: a message that stays hidden for up to fifteen minutes."""

from __future__ import annotations

import math
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.publish.target import Target

    Later = Callable[[Target, str, float, bool], bool]

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html
MAX_DELAY_S = 900


#: Where a worker runs a batch: has a body sent to a queue at a time (epoch seconds), which is later
#: than SQS can delay it; where that need not be exact, up to a minute later. Says whether it could.
later: ContextVar[Later | None] = ContextVar("twolane_later", default=None)


def delay_seconds(eta: Any, *, now: float) -> int:
    """Whole seconds until ``eta`` (ISO 8601, Celery's header), at most 900; 0 for none or past.

    Rounded up: a message that arrives before its ETA costs the worker another deferral. Beyond 900
    the worker defers the rest.
    """
    due = due_at(eta)
    return 0 if due is None else max(0, min(MAX_DELAY_S, math.ceil(due - now)))


def due_at(eta: Any) -> float | None:
    """``eta`` in epoch seconds; ``None`` where there is none that can be understood here.

    A naive ETA is in the application's own time zone, which is not known here: the worker, who
    knows it, defers the whole of it.
    """
    if not isinstance(eta, str):
        return None
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        # The worker rejects it by name; hiding the message meanwhile would help nobody.
        return None
    return due.timestamp() if due.tzinfo is not None else None
