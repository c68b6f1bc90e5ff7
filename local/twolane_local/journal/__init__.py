"""The journal: every step as one immutable event, correlated by request, message and task id.

Logs, commands, the web console and the pytest plugin all read it, so they all show the same.

``files``                A journal on disk, and the append-only log that other parts use too.
``lines``                From a function's log line to an event, and from an event to a terminal.
``messages``             From an SQS message's body to the Celery task in it.
``redact``               Replaces secrets before something is shown.
``filters``              Selects events.
``related_events``       The events of one request, task or message.
``trace``                A request as a waterfall of spans; ``json_shapes`` is its JSON.
``summaries``            The latest requests, a line each.
``task_counts``          Counts the outcomes of tasks.
``tracebacks``           Folds the frames of frameworks in a traceback.
``why``                  Why something does not move, in a sentence.
"""

from __future__ import annotations

import json
import re
from collections import deque
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from twolane_local.clock import Clock

#: The kinds of events, by what they are about. `task.*`, `inline.*` and `request.failed` come from
#: the runtime's own events, all others from the emulator.
KINDS = frozenset(
    {
        "request.received", "request.answered",
        "environment.started", "environment.frozen", "environment.stopped",
        "invocation.started", "invocation.responded", "invocation.ended", "invocation.throttled",
        "invocation.dropped",
        "message.sent", "message.received", "message.deleted", "message.returned",
        "message.dead_lettered", "message.filtered", "message.expired", "batch.invoked",
        "request.failed",
        "tick", "schedule.fired",
        "task.published", "task.started", "task.succeeded", "task.failed", "task.retried",
        "task.deferred", "task.revoked", "task.rejected", "task.expired", "task.duplicate",
        "task.returned", "inline.started", "inline.succeeded", "inline.failed", "inline.deferred",
        "inline.lost", "log", "fault.injected", "clock.moved", "queue.purged",
    }
)  # fmt: skip


class Event(NamedTuple):
    """One step; ``at`` is in epoch seconds, on the emulator's clock. A tuple, because each request
    makes five of them: a frozen dataclass takes three times as long.
    """

    seq: int
    at: float
    kind: str
    function: str | None = None
    queue: str | None = None
    request_id: str | None = None
    message_id: str | None = None
    task_id: str | None = None
    data: Mapping[str, Any] = MappingProxyType({})

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON values, absent fields left out."""
        found: dict[str, Any] = {"seq": self.seq, "at": self.at, "kind": self.kind}
        for name in ("function", "queue", "request_id", "message_id", "task_id"):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.data:
            found["data"] = {
                name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                for name, value in self.data.items()
            }
        return found


Content = TypeVar("Content", str, bytes)

#: The fields of ``data`` with a message's body, an invocation's event or its response.
CONTENT = ("body", "payload")
#: The journal keeps the first characters or bytes of each, at most this many.
CONTENT_LIMIT = 16_384


def cut(content: Content) -> Content:
    """Return the part of a content that the journal keeps: its beginning."""
    return content if len(content) <= CONTENT_LIMIT else content[:CONTENT_LIMIT]


#: So many ids of the runtime's events are remembered: a line that is there twice follows itself.
_REMEMBERED = 10_000


class Journal:
    """A ring of at most ``size`` events, whose contents together have at most ``limit`` bytes."""

    def __init__(self, clock: Clock, *, size: int = 100_000, limit: int = 64 << 20) -> None:
        self._clock = clock
        self.size, self.limit = size, limit
        #: The size of all kept contents, in characters or bytes.
        self.bytes = 0
        self._events: deque[Event] = deque()
        self._weights: deque[int] = deque()
        self._subscribers: list[Callable[[Event], None]] = []
        #: The number of the latest event, 0 before the first.
        self.last = 0
        self._told: dict[str, None] = {}

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
        """Append one event and pass it to the subscribers."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of journal event")
        self.last += 1
        event = Event(
            self.last, self._clock.time(), kind, function, queue, request_id, message_id, task_id,
            data,
        )  # fmt: skip
        self._keep(event)
        for callback in tuple(self._subscribers):
            callback(event)
        return event

    def now(self) -> float:
        """Return the time on the journal's clock, in seconds since the epoch."""
        return self._clock.time()

    def is_new(self, event_id: str) -> bool:
        """Return whether no line with this id was there yet, among the latest ones."""
        if event_id in self._told:
            return False
        self._told[event_id] = None
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        return True

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``callback`` with each new event until the returned function is called."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def restore(self, former: Iterable[Event]) -> int:
        """Insert an earlier run's events before the present ones; return how many there were. Open
        invocations get an end in between; all numbers are new, rising by one from the oldest.
        """
        kept = [event for event in former if event.kind in KINDS][-self.size :]
        present = list(self._events)
        self._events.clear()
        self._weights.clear()
        self.last, self.bytes = 0, 0
        for event in (*kept, *_missing_ends(kept), *present):
            self.last += 1
            self._keep(event._replace(seq=self.last))
        return len(kept)

    def _keep(self, event: Event) -> None:
        weight = 0
        for name in CONTENT:  # a generator takes twice as long, for five events a request
            content = event.data.get(name)
            if isinstance(content, (str, bytes)):
                weight += len(content)
        self._events.append(event)
        self._weights.append(weight)
        self.bytes += weight
        while len(self._events) > self.size or (self.bytes > self.limit and self._events):
            self._events.popleft()
            self.bytes -= self._weights.popleft()

    def since(self, seq: int) -> Iterator[Event]:
        """Return the events after number ``seq``, oldest first; older ones cost no time."""
        newer = min(self.last - seq, len(self._events))
        found = list(islice(reversed(self._events), max(0, newer)))
        found.reverse()
        return iter(found)

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)


def _missing_ends(former: Iterable[Event]) -> list[Event]:
    """Return ends for the invocations that were open when an earlier run was killed."""
    open_: dict[str | None, Event] = {}
    last = 0.0
    for event in former:
        last = event.at
        if event.kind == "invocation.started":
            open_[event.request_id] = event
        elif event.kind == "invocation.ended":
            open_.pop(event.request_id, None)
    return [
        Event(
            0, last, "invocation.ended", begun.function, request_id=begun.request_id,
            data={"durationMs": round((last - begun.at) * 1000, 2), "billedMs": 0, "memoryMb": 0,
                  "maxMemoryMb": 0, "reason": "the emulator ended"},
        )
        for begun in open_.values()
    ]  # fmt: skip


#: Fields of the runtime's log lines, by the parameters of ``Journal.record``.
_PARAMETERS = {"requestId": "request_id", "taskId": "task_id", "messageId": "message_id",
               "queue": "queue"}  # fmt: skip
#: How a line of Lambda's own text log begins, that of an error which a handler raised too.
_LEVEL = re.compile(r"\[(DEBUG|INFO|WARNING|ERROR|CRITICAL)\]\s")
_RESERVED = frozenset({"kind", "function", "request_id", "message_id", "task_id", "queue"})


def record_line(journal: Journal, function: str, request_id: str | None, line: bytes) -> None:
    """Record one line: as the event that it names, or as a ``log`` event."""
    text = line.decode("utf-8", "replace").rstrip()
    fields = _json_object(text)
    if fields is None:
        level = _LEVEL.match(text)
        found = {"level": level[1]} if level is not None else {}
        journal.record("log", function=function, request_id=request_id, line=text, **found)
        return
    fields.pop("_aws", None)  # CloudWatch's embedded metric format: not for people
    record_fields(journal, function, request_id, fields, text)


def record_fields(
    journal: Journal,
    function: str | None,
    request_id: str | None,
    fields: dict[str, Any],
    text: str = "",
) -> None:
    """Record one line that is a JSON object, like ``record_line``."""
    ours = str(fields.get("logger", "")).startswith("twolane")
    kind = fields.pop("event", None) if ours else None
    known = kind if isinstance(kind, str) and kind in KINDS else "log"
    event_id = fields.pop("eventId", None) if ours else None
    if isinstance(event_id, str) and not journal.is_new(event_id):
        return
    named: dict[str, Any] = {"request_id": request_id}
    named |= {
        parameter: str(fields.pop(field))
        for field, parameter in _PARAMETERS.items()
        if fields.get(field)
    }
    if known == "log":
        # structlog calls the message ``event``.
        message = fields.get("message", text if ours else fields.get("event", text))
        fields.setdefault("line", str(message))
        level = fields.get("level") or fields.get("levelname")
        if isinstance(level, str):
            fields["level"] = level.upper()
    # A line may have fields named `kind` or `function`, which are parameters of `record`.
    data = {name: value for name, value in fields.items() if name not in _RESERVED}
    journal.record(known, function=function, **named, **data)


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
