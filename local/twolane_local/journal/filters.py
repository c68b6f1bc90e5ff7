"""The filters of ``/api/journal`` and ``twolane tail``, as a pure function of an event."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.journal import Event

_FAILED = frozenset(
    {"request.failed", "task.failed", "task.rejected", "inline.failed", "inline.lost",
     "message.dead_lettered", "invocation.throttled", "invocation.dropped", "message.expired"}
)  # fmt: skip
_RETRIED = frozenset(
    {"task.retried", "task.returned", "task.deferred", "inline.deferred", "message.returned"}
)


@dataclass(frozen=True, slots=True)
class Filter:
    """An event must match every field; an empty field matches all events."""

    kind: str = ""
    function: str = ""
    queue: str = ""
    task: str = ""
    state: str = ""
    id: str = ""
    text: str = ""

    def matches(self, event: Event) -> bool:
        return (
            (not self.kind or event.kind.startswith(self.kind))
            and (not self.function or event.function == self.function)
            and (not self.queue or event.queue == self.queue)
            and (not self.task or event.data.get("taskName") == self.task)
            and (not self.state or state_of(event) == self.state)
            and (not self.id or is_about(event, self.id))
            and (not self.text or contains_text(event, self.text.lower()))
        )


def from_query(query: Mapping[str, str]) -> Filter:
    """Return the filter in a request's parameters."""
    known = {field.name for field in fields(Filter)}
    return Filter(**{name: value.strip() for name, value in query.items() if name in known})


def state_of(event: Event) -> str:
    """Return ``failed``, ``retried``, ``running``, ``ok``, or an empty text for other events."""
    kind, data = event.kind, event.data
    status = data.get("status")
    if kind in _FAILED or data.get("error") or data.get("level") in {"ERROR", "CRITICAL"}:
        return "failed"
    if kind == "request.answered":
        return "failed" if isinstance(status, int) and status >= 500 else "ok"
    if kind in _RETRIED:
        return "retried"
    if kind.endswith((".started", ".received", ".published")):
        return "running"
    return "ok" if kind.endswith((".succeeded", ".ended", ".deleted")) else ""


def is_about(event: Event, identity: str) -> bool:
    """Return whether one of the event's ids begins with ``identity``."""
    ids = (event.request_id, event.task_id, event.message_id, event.data.get("originRequestId"))
    return any(isinstance(each, str) and each.startswith(identity) for each in ids)


def contains_text(event: Event, lowered: str) -> bool:
    """Return whether any field of the event contains the text, which is in lower case."""
    places = (event.kind, event.function, event.queue, event.request_id, event.task_id,
              event.message_id)  # fmt: skip
    if any(each is not None and lowered in each.lower() for each in places):
        return True
    for value in event.data.values():
        found = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if lowered in found.lower():
            return True
    return False
