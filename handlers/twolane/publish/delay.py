"""An ETA as SQS knows it: a message that stays hidden for up to fifteen minutes."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html
MAX_DELAY_S = 900


def delay_seconds(eta: Any, *, now: float) -> int:
    """Whole seconds until ``eta`` (ISO 8601, Celery's header), at most 900; 0 for none or past.

    Rounded up: a message that arrives before its ETA costs the worker another deferral. Beyond 900
    the worker defers the rest. A naive ETA is in the application's own time zone, which is not
    known here: the worker, who knows it, defers the whole of it.
    """
    if not isinstance(eta, str):
        return 0
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        # The worker rejects it by name; hiding the message meanwhile would help nobody.
        return 0
    if due.tzinfo is None:
        return 0
    return max(0, min(MAX_DELAY_S, math.ceil(due.timestamp() - now)))
