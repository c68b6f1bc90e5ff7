"""Journal events as the emulator records them, made short."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from twolane_local.journal import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEQ = count(1)


def event(kind: str, **fields: Any) -> Event:
    places = {name: fields.pop(name) for name in
              ("function", "queue", "request_id", "message_id", "task_id")
              if name in fields}  # fmt: skip
    return Event(next(_SEQ), 0.0, kind, data=fields, **places)


def inline(name: str, milliseconds: float, *, kind: str = "inline.succeeded") -> list[Event]:
    """One request with one background task."""
    request = f"r{next(_SEQ)}"
    return [
        event("request.received", request_id=request),
        event(kind, function="Api", request_id=request, taskName=name, durationMs=milliseconds),
    ]


def deferred(
    name: str, milliseconds: float, *, by_request: bool = True, delay: int = 0, retries: int = 0
) -> Iterator[Event]:
    """One task from its publish to its end, in a batch of its own."""
    identity, sender = f"t{next(_SEQ)}", f"r{next(_SEQ)}"
    if by_request:
        yield event("request.received", request_id=sender)
    yield event(
        "task.published", function="Api", request_id=sender, task_id=identity, taskName=name,
        delaySeconds=delay,
    )  # fmt: skip
    for attempt in range(retries + 1):
        batch = f"b{next(_SEQ)}"
        yield event("batch.invoked", function="Worker", request_id=batch, messageIds=[identity])
        if attempt < retries:
            yield event("task.published", function="Worker", request_id=batch, task_id=identity,
                        taskName=name, delaySeconds=5)  # fmt: skip
        kind = "task.retried" if attempt < retries else "task.succeeded"
        yield event(kind, function="Worker", request_id=batch, task_id=identity, taskName=name,
                    durationMs=milliseconds)  # fmt: skip
