"""Finds the events that belong to one request, task or message, and a task's place in its canvas.

Everything that a request starts carries its id: the worker's log lines have it as
``originRequestId`` (``twolane.publish.message``). Messages and invocations of the worker are found
through their tasks.

How an invocation ended is defined here, from its events, for everything that shows it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twolane.errors import MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twolane_local.journal import Event


#: The shortest beginning of an id that can be searched for.
SHORTEST = 8
_BEGINNINGS = frozenset({"request.received", "invocation.started", "tick", "schedule.fired"})


class UnknownIdError(LookupError):
    """The journal holds nothing of that id."""


class AmbiguousIdError(LookupError):
    """Several ids have that beginning."""


@dataclass(slots=True)
class RelatedEvents:
    """The events that belong together, in order: by task, by message and by request."""

    identity: str
    root: str | None  # a request's id
    tasks: dict[str, list[Event]] = field(default_factory=dict)
    messages: dict[str, list[Event]] = field(default_factory=dict)
    #: By request id: the events of the root and of the worker's invocations.
    requests: dict[str, list[Event]] = field(default_factory=dict)
    faults: list[Event] = field(default_factory=list)

    def task_messages(self, task_id: str) -> list[str]:
        """Return the ids of the messages that carried a task, in the order of sending."""
        found = {event.message_id: None for event in self.tasks[task_id] if event.message_id}
        known = [name for name in found if name is not None and name in self.messages]
        return sorted(known, key=lambda name: self.messages[name][0].seq)


def collect(events: Iterable[Event], identity: str) -> RelatedEvents:
    """Events of an id or its beginning. Raises ``UnknownIdError`` or ``AmbiguousIdError``."""
    steps: Sequence[Event] = tuple(events)
    identity, kind = resolve(steps, identity)
    root = identity if kind == "request" else _origin(steps, identity, kind)
    # A message's own events come before those of its task.
    steps = _since(steps, root) if root is not None else steps
    tasks = _tasks(steps, root)
    if kind == "task":
        tasks.add(identity)
    messages = {e.message_id for e in steps if e.message_id is not None and e.task_id in tasks}
    for event in steps:
        # A redrive makes a new message of an old one.
        if event.kind == "message.sent" and event.data.get("redrivenId") in messages:
            messages.add(event.message_id or "")
    if kind == "message":
        messages.add(identity)
    related = RelatedEvents(identity, root)
    _gather(steps, related, tasks, messages)
    return related


def resolve(events: Sequence[Event], identity: str) -> tuple[str, str]:
    """Return the whole id, and its kind: ``request``, ``task`` or ``message``."""
    for event in events:
        if identity in (event.request_id, event.task_id, event.message_id):
            return identity, _kind(event, identity)
    found: dict[str, str] = {}
    for event in events if len(identity) >= SHORTEST else ():
        for value in (event.request_id, event.task_id, event.message_id):
            if value is not None and value not in found and value.startswith(identity):
                found[value] = _kind(event, value)
    if not found:
        raise UnknownIdError(
            f"the journal holds nothing about {identity!r}; it keeps the latest events only, and "
            f"takes whole ids or at least their first {SHORTEST} characters"
        )
    if len(found) > 1:
        raise AmbiguousIdError(f"{identity!r} could be {', '.join(sorted(found)[:5])}")
    return next(iter(found.items()))


def _kind(event: Event, identity: str) -> str:
    if event.request_id == identity:
        return "request"
    return "task" if event.task_id == identity else "message"


def _since(events: Sequence[Event], identity: str) -> Sequence[Event]:
    """Return the events from a request's beginning on, if the journal has it. A task sent by hand
    has a request id without a request: its message comes before every event with that id.
    """
    for index, event in enumerate(events):
        if event.request_id == identity:
            return events[index:] if event.kind in _BEGINNINGS else events
    return events


def _origin(events: Sequence[Event], identity: str, kind: str) -> str | None:
    """Return the request that a task or message comes from, if an event names it."""
    for event in events:
        own = event.task_id if kind == "task" else event.message_id
        if own != identity:
            continue
        origin = event.data.get("originRequestId")
        if isinstance(origin, str):
            return origin
        if event.kind == "task.published":
            return event.request_id
    return None


def _tasks(events: Sequence[Event], root: str | None) -> set[str]:
    if root is None:
        return set()
    return {
        event.task_id
        for event in events
        if event.task_id is not None
        and (event.request_id == root or event.data.get("originRequestId") == root)
    }


def _gather(
    events: Sequence[Event], related: RelatedEvents, tasks: set[str], messages: set[str]
) -> None:
    by_task, by_message = defaultdict(list), defaultdict(list)
    by_request: defaultdict[str, list[Event]] = defaultdict(list)
    requests = {related.root} if related.root is not None else set()
    begin: float | None = None
    for event in events:
        if event.kind == "batch.invoked" and not messages.isdisjoint(event.data["messageIds"]):
            requests.add(event.request_id or "")
        if event.task_id in tasks and event.task_id is not None:
            by_task[event.task_id].append(event)
        if event.message_id in messages and event.message_id is not None:
            by_message[event.message_id].append(event)
        if event.request_id in requests and event.request_id is not None:
            by_request[event.request_id].append(event)
            begin = event.at if begin is None else begin
        if begin is not None and event.kind in ("fault.injected", "clock.moved"):
            related.faults.append(event)
    related.tasks, related.messages = dict(by_task), dict(by_message)
    related.requests = dict(by_request)


@dataclass(frozen=True, slots=True)
class Chord:
    """Tasks whose results go to a callback once all of them are done."""

    callback: str
    name: str
    header: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CanvasPlace:
    """A task's parent and its chord's callback."""

    parent: str | None = None
    callback: str | None = None
    callback_name: str = ""


@lru_cache(maxsize=4_096)
def canvas_place_of(body: str) -> CanvasPlace:
    """Read the place from an SQS body; empty if it is not a Celery message, or was cut.

    The callback's signature is in the embed of the message's body:
    https://docs.celeryq.dev/en/stable/internals/protocol.html#definition
    """
    from twolane.worker.message import open_envelope

    try:
        envelope = open_envelope(body)
        content = json.loads(envelope.body)
    except (MalformedMessageError, ValueError, RecursionError):
        return CanvasPlace()
    parent = envelope.headers.get("parent_id")
    embed = content[2] if isinstance(content, list) and len(content) == 3 else None
    chord = embed.get("chord") if isinstance(embed, dict) else None
    callback, name = _signature(chord)
    return CanvasPlace(parent if isinstance(parent, str) else None, callback, name)


def _signature(chord: Any) -> tuple[str | None, str]:
    if not isinstance(chord, dict):
        return None, ""
    options = chord.get("options")
    identity = options.get("task_id") if isinstance(options, dict) else None
    name = chord.get("task")
    return (identity if isinstance(identity, str) else None), name if isinstance(name, str) else ""


def canvas_place(related: RelatedEvents, task_id: str) -> CanvasPlace:
    """Return the place of a task, from its first message."""
    for message_id in related.task_messages(task_id):
        for event in related.messages[message_id]:
            body = event.data.get("body")
            if event.kind == "message.sent" and isinstance(body, str):
                return canvas_place_of(body)
    return CanvasPlace()


def parent_of(related: RelatedEvents, task_id: str) -> str | None:
    """Return the span id of the task that published this one, if it is among the events."""
    parent = canvas_place(related, task_id).parent
    return f"task:{parent}" if parent in related.tasks and parent != task_id else None


def chords_of(related: RelatedEvents) -> dict[str, Chord]:
    """Return the chords of these tasks, by the callback's task id."""
    header: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for task_id in related.tasks:
        place = canvas_place(related, task_id)
        if place.callback is not None:
            header.setdefault(place.callback, []).append(task_id)
            names[place.callback] = place.callback_name
    return {
        callback: Chord(callback, names[callback], tuple(tasks))
        for callback, tasks in header.items()
    }


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
