"""Which events of the journal belong to one request, task or message: the facts of a trace.

A request's id is on everything that it starts: the worker's log lines carry it as
``originRequestId`` (``twolane.publish.headers``). Messages and invocations of the worker are
found through the tasks that they carry.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
