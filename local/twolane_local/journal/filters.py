"""Which events somebody wants to see: the filters of the journal's routes, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.journal import Event

_FAILED = frozenset(
    {"task.failed", "task.rejected", "inline.failed", "inline.lost", "message.dead_lettered",
     "invocation.throttled", "invocation.dropped", "message.expired"}
)  # fmt: skip
_RETRIED = frozenset(
    {"task.retried", "task.returned", "task.deferred", "inline.deferred", "message.returned"}
)


@dataclass(frozen=True, slots=True)
class Filter:
    """All that are given must match; an empty text matches everything."""

    kind: str = ""
    function: str = ""
    queue: str = ""
    task: str = ""
    state: str = ""
    id: str = ""
    text: str = ""

    def matches(self, event: Event) -> bool:
        """Whether the event is wanted."""
        return (
            (not self.kind or event.kind.startswith(self.kind))
            and (not self.function or event.function == self.function)
            and (not self.queue or event.queue == self.queue)
            and (not self.task or event.data.get("taskName") == self.task)
            and (not self.state or state_of(event) == self.state)
            and (not self.id or is_about(event, self.id))
            and (not self.text or says(event, self.text.lower()))
        )


def from_query(query: Mapping[str, str]) -> Filter:
    """The filter that a request's parameters ask for."""
    known = {field.name for field in fields(Filter)}
    return Filter(**{name: value.strip() for name, value in query.items() if name in known})


def state_of(event: Event) -> str:
    """``failed``, ``retried``, ``running``, ``ok``, or nothing for what is neither."""
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
    """Whether one of the event's ids begins so."""
    ids = (event.request_id, event.task_id, event.message_id, event.data.get("originRequestId"))
    return any(isinstance(each, str) and each.startswith(identity) for each in ids)


def says(event: Event, lowered: str) -> bool:
    """Whether the text is anywhere in what the event tells."""
    places = (event.kind, event.function, event.queue, event.request_id, event.task_id,
              event.message_id)  # fmt: skip
    if any(each is not None and lowered in each.lower() for each in places):
        return True
    for value in event.data.values():
        found = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        if lowered in found.lower():
            return True
    return False
