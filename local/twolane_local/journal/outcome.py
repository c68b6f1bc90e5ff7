"""How an invocation ended, from its events: one answer for all that show it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.journal import Event

#: After it the function's answer is lost, whatever the environment has journaled.
_LOST = "environment.killed-after-task"


def failed(event: Event) -> bool:
    """Whether the event says of its invocation that it failed."""
    match event.kind:
        case "invocation.responded":
            return bool(event.data.get("error"))
        case "invocation.ended":
            return bool(event.data.get("reason"))
        case "fault.injected":
            return event.data.get("name") == _LOST
        case _:
            return False


def failure(events: Iterable[Event]) -> str:
    """Why an invocation failed, in a few words; empty for one that did not."""
    telling = [event for event in events if failed(event)]
    for event in telling:
        if event.kind == "invocation.ended":
            return str(event.data["reason"])
    for event in telling:
        return error_type(event) if event.kind == "invocation.responded" else "it was killed"
    return ""


def error_type(responded: Event) -> str:
    """Of the error object that a function's response is."""
    payload = responded.data.get("payload") or "{}"
    try:
        return str(json.loads(payload).get("errorType", "an error"))
    except (ValueError, AttributeError):
        return "an error"
