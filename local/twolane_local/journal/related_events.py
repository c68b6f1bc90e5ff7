"""Which events of the journal belong to one request, task or message: the facts of a trace.

A request's id is on everything that it starts: the worker's log lines carry it as
``originRequestId`` (``twolane.publish.headers``). Messages and invocations of the worker are
found through the tasks that they carry.
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


#: As much of an id as it takes to be looked for.
SHORTEST = 8
_BEGINNINGS = frozenset({"request.received", "invocation.started", "tick", "schedule.fired"})


class UnknownIdError(LookupError):
    """The journal holds nothing of that id."""


class AmbiguousIdError(LookupError):
    """Several ids begin so."""


@dataclass(slots=True)
class Story:
    """The events of one story, by what they are about, each in order."""

    identity: str
    root: str | None  # a request's id
    tasks: dict[str, list[Event]] = field(default_factory=dict)
    messages: dict[str, list[Event]] = field(default_factory=dict)
    #: By request id: the root's own events, and those of the worker's invocations.
    requests: dict[str, list[Event]] = field(default_factory=dict)
    faults: list[Event] = field(default_factory=list)

    def task_messages(self, task_id: str) -> list[str]:
        """The messages that carried a task, as they were sent."""
        found = {event.message_id: None for event in self.tasks[task_id] if event.message_id}
        known = [name for name in found if name is not None and name in self.messages]
        return sorted(known, key=lambda name: self.messages[name][0].seq)


def collect(events: Iterable[Event], identity: str) -> Story:
    """All that belongs to a request, task or message id, or one that begins so.

    Raises ``UnknownIdError`` or ``AmbiguousIdError``.
    """
    steps: Sequence[Event] = tuple(events)
    identity, kind = resolve(steps, identity)
    root = identity if kind == "request" else _origin(steps, identity, kind)
    # A message is on its queue before the task's own events tell of it.
    steps = _since(steps, root) if root is not None else steps
    tasks = _tasks(steps, root)
    if kind == "task":
        tasks.add(identity)
    messages = _messages(steps, tasks)
    if kind == "message":
        messages.add(identity)
    return _gathered(steps, Story(identity, root), tasks, messages)


def resolve(events: Sequence[Event], identity: str) -> tuple[str, str]:
    """The whole id, and whether it is a ``request``'s, a ``task``'s or a ``message``'s."""
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
            f"takes whole ids or their first {SHORTEST} characters and more"
        )
    if len(found) > 1:
        raise AmbiguousIdError(f"{identity!r} could be {', '.join(sorted(found)[:5])}")
    return next(iter(found.items()))


def _kind(event: Event, identity: str) -> str:
    if event.request_id == identity:
        return "request"
    return "task" if event.task_id == identity else "message"


def _since(events: Sequence[Event], identity: str) -> Sequence[Event]:
    """From a request's beginning on, if that is what the journal has of it first.

    A task sent by hand is named after a request that has none: its message comes before all that
    names that request.
    """
    for index, event in enumerate(events):
        if event.request_id == identity:
            return events[index:] if event.kind in _BEGINNINGS else events
    return events


def _origin(events: Sequence[Event], identity: str, kind: str) -> str | None:
    """The request that a task or message comes from, if anything tells."""
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


def _messages(events: Sequence[Event], tasks: set[str]) -> set[str]:
    found = {e.message_id for e in events if e.message_id is not None and e.task_id in tasks}
    for event in events:
        # A redrive makes a new message of an old one.
        if event.kind == "message.sent" and event.data.get("redrivenId") in found:
            found.add(event.message_id or "")
    return found


def _gathered(events: Sequence[Event], story: Story, tasks: set[str], messages: set[str]) -> Story:
    by_task, by_message = defaultdict(list), defaultdict(list)
    by_request: defaultdict[str, list[Event]] = defaultdict(list)
    requests = {story.root} if story.root is not None else set()
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
            story.faults.append(event)
    story.tasks, story.messages = dict(by_task), dict(by_message)
    story.requests = dict(by_request)
    return story


@dataclass(frozen=True, slots=True)
class Chord:
    """Tasks whose results a callback gets once all of them are done."""

    callback: str
    name: str
    header: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A task's place in its canvas."""

    parent: str | None = None
    callback: str | None = None
    callback_name: str = ""


@lru_cache(maxsize=4_096)
def place_of(body: str) -> Place:
    """Read from an SQS body; an empty place for what is no Celery message, or was cut.

    The callback's signature is in the embed of the message's body:
    https://docs.celeryq.dev/en/stable/internals/protocol.html#definition
    """
    from twolane.worker.message import open_envelope

    try:
        envelope = open_envelope(body)
        content = json.loads(envelope.body)
    except (MalformedMessageError, ValueError, RecursionError):
        return Place()
    parent = envelope.headers.get("parent_id")
    embed = content[2] if isinstance(content, list) and len(content) == 3 else None
    chord = embed.get("chord") if isinstance(embed, dict) else None
    callback, name = _signature(chord)
    return Place(parent if isinstance(parent, str) else None, callback, name)


def _signature(chord: Any) -> tuple[str | None, str]:
    if not isinstance(chord, dict):
        return None, ""
    options = chord.get("options")
    identity = options.get("task_id") if isinstance(options, dict) else None
    name = chord.get("task")
    return (identity if isinstance(identity, str) else None), name if isinstance(name, str) else ""


def place_in(story: Story, task_id: str) -> Place:
    """Of a task of the story, from the first of its messages."""
    for message_id in story.task_messages(task_id):
        for event in story.messages[message_id]:
            body = event.data.get("body")
            if event.kind == "message.sent" and isinstance(body, str):
                return place_of(body)
    return Place()


def parent_of(story: Story, task_id: str) -> str | None:
    """The span of the task that published this one, where that is in the story."""
    parent = place_in(story, task_id).parent
    return f"task:{parent}" if parent in story.tasks and parent != task_id else None


def chords_of(story: Story) -> dict[str, Chord]:
    """By the callback's task id, those whose callback was published."""
    header: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for task_id in story.tasks:
        place = place_in(story, task_id)
        if place.callback is not None:
            header.setdefault(place.callback, []).append(task_id)
            names[place.callback] = place.callback_name
    return {
        callback: Chord(callback, names[callback], tuple(tasks))
        for callback, tasks in header.items()
    }
