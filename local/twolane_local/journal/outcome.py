"""How an invocation ended, from its events: the one definition for everything that shows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.journal import Event

#: This fault loses the function's response, whatever the environment has recorded.
_LOST = "environment.killed-after-task"


def is_failure(event: Event) -> bool:
    """Return whether the event means that its invocation failed."""
    match event.kind:
        case "invocation.responded":
            return bool(event.data.get("error"))
        case "invocation.ended":
            return bool(event.data.get("reason"))
        case "fault.injected":
            return event.data.get("name") == _LOST
        case _:
            return False


def failure_reason(events: Iterable[Event]) -> str:
    """Return why an invocation failed, in a few words; empty if it did not."""
    failures = [event for event in events if is_failure(event)]
    for event in failures:
        if event.kind == "invocation.ended":
            return str(event.data["reason"])
    for event in failures:
        return error_type(event) if event.kind == "invocation.responded" else "it was killed"
    return ""


def error_type(responded: Event) -> str:
    """Return the ``errorType`` in a function's error response."""
    payload = responded.data.get("payload") or "{}"
    try:
        return str(json.loads(payload).get("errorType", "an error"))
    except (ValueError, AttributeError):
        return "an error"
