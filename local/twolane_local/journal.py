"""The journal: every step as one immutable event, correlated by request, message and task id.

Logs, commands, the web console and the pytest plugin all read it, so all say the same thing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.clock import Clock

#: The kinds of events, by what they are about. `task.*` and `inline.*` come from the runtime's own
#: log lines, all others from the emulator.
KINDS = frozenset(
    {
        "request.received", "request.answered",
        "environment.started", "environment.frozen", "environment.stopped",
        "invocation.started", "invocation.responded", "invocation.ended", "invocation.throttled",
        "message.sent", "message.received", "message.deleted", "message.returned",
        "message.dead_lettered", "message.filtered", "message.expired", "batch.invoked",
        "tick", "schedule.fired",
        "task.published", "task.started", "task.succeeded", "task.failed", "task.retried",
        "task.deferred", "task.revoked", "task.rejected", "task.expired", "task.duplicate",
        "task.returned", "inline.started", "inline.succeeded", "inline.failed", "inline.deferred",
        "inline.lost", "log",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One step. ``at`` is in seconds since the epoch, on the emulator's clock."""

    seq: int
    at: float
    kind: str
    function: str | None = None
    queue: str | None = None
    request_id: str | None = None
    message_id: str | None = None
    task_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON values, absent fields left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}


class Journal:
    """A bounded ring of events; whoever subscribes sees each new one, in order."""

    def __init__(self, clock: Clock, *, size: int = 100_000) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=size)
        self._subscribers: list[Callable[[Event], None]] = []
        self._seq = 0

    def record(
        self,
        kind: str,
        *,
        function: str | None = None,
        queue: str | None = None,
        request_id: str | None = None,
        message_id: str | None = None,
        task_id: str | None = None,
        **data: Any,
    ) -> Event:
        """Append one event and tell the subscribers."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of journal event")
        self._seq += 1
        event = Event(
            self._seq, self._clock.time(), kind, function, queue, request_id, message_id, task_id,
            data,
        )  # fmt: skip
        self._events.append(event)
        for tell in tuple(self._subscribers):
            tell(event)
        return event

    def subscribe(self, tell: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``tell`` with each new event, until the returned function is called."""
        self._subscribers.append(tell)
        return lambda: self._subscribers.remove(tell)

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)
