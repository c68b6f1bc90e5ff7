"""The kinds of event that reach a beat function, told apart and read.

A *tick*, from a Scheduler schedule or an EventBridge rule without an input of its own; both carry
``"time"``. Scheduler's ``detail`` is the *text* ``"{}"``, a rule's an empty object:
https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html

A *slot*, from the schedules that ``twolane schedules`` writes, one for each entry; its input is
``{"twolane": {"entry": "digest", "slot": "<aws.scheduler.scheduled-time>"}}``:
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twolane.errors import ConfigurationError

#: Scheduler gives up on an event after a day at most (MaximumEventAgeInSeconds): what claims to be
#: older is a sample, and must not set the clock back.
#: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html
_OLDEST_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Tick:
    """Look for everything that is due at ``at`` (epoch seconds)."""

    at: float


@dataclass(frozen=True, slots=True)
class Slot:
    """Send one entry's slot."""

    entry: str
    at: float


@dataclass(frozen=True, slots=True)
class Request:
    """A person asks something; see ``twolane.beat.inspection``."""

    asked: dict[str, Any]


def read_event(event: Any, now: float) -> Tick | Slot | Request:
    """The ticks of an event, by default at ``now``. Raises ``ConfigurationError`` for another."""
    if not isinstance(event, dict) or "Records" in event or "requestContext" in event:
        raise ConfigurationError(
            "a beat function got an event that is not from a schedule; "
            "check the Events of BeatHandler's function in template.yaml"
        )
    asked = event.get("twolane")
    if isinstance(asked, dict):
        if "entry" in asked:
            return Slot(str(asked["entry"]), _instant(asked.get("slot"), now))
        return Request(asked)
    return Tick(_instant(event.get("time"), now))


def _instant(text: Any, now: float) -> float:
    if not isinstance(text, str):
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"a schedule's event says its time is {text!r}; it must be like 2026-01-01T00:00:00Z"
        ) from None
    at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return at if abs(now - at) <= _OLDEST_S else now
