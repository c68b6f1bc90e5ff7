"""Why something does not move, in a sentence with the numbers: a pure function.

Reads the story of an id (the journal) and the state of queues, mappings and functions at one
moment; knows nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.console import why_queue
from twolane_local.console.canvas import chords_of
from twolane_local.console.outcome import failure
from twolane_local.console.reasons import Reason, seconds
from twolane_local.console.story import collect, resolve
from twolane_local.console.task_spans import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twolane_local.console.state import Snapshot
    from twolane_local.console.story import Story
    from twolane_local.journal import Event


@dataclass(frozen=True, slots=True)
class Answer:
    """``moving`` is false where nothing will happen by itself, and where all is over."""

    id: str
    kind: str
    state: str  # running | waiting | stuck | over
    reasons: tuple[Reason, ...] = field(default_factory=tuple)

    @property
    def moving(self) -> bool:
        return self.state in ("running", "waiting")

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id, "kind": self.kind, "state": self.state, "moving": self.moving,
            "reasons": [reason.as_dict() for reason in self.reasons],
        }  # fmt: skip


def why(events: Iterable[Event], identity: str, snapshot: Snapshot) -> Answer:
    """Why a request, a task or a message is where it is.

    Raises ``UnknownIdError`` or ``AmbiguousIdError``.
    """
    steps = tuple(events)
    identity, kind = resolve(steps, identity)
    story = collect(steps, identity)
    about = {"request": _request, "task": _task, "message": _message}[kind]
    reasons = tuple(about(story, identity, snapshot))
    states = [reason.state for reason in reasons]
    state = next((s for s in ("stuck", "running", "waiting") if s in states), "over")
    return Answer(identity, kind, state, reasons)


def _request(story: Story, identity: str, snapshot: Snapshot) -> Iterator[Reason]:
    events = story.requests.get(identity, [])
    kinds = {event.kind: event for event in reversed(events)}
    answered, ended = kinds.get("request.answered"), kinds.get("invocation.ended")
    if ended is None and answered is None:
        yield _not_answered(kinds, snapshot)
    elif ended is None and "invocation.started" in kinds:
        name = kinds["invocation.started"].function
        yield Reason("inline", f"its response is sent; {name} still runs inline tasks", "running")
    elif answered is not None:
        status = answered.data["status"]
        took = answered.data["durationMs"]
        yield Reason(
            "answered", f"answered {status} after {took:.0f} ms", "over", {"status": status}
        )
    if ended is not None and (why := failure(events)):
        yield Reason("failed", f"the invocation of {ended.function} failed: {why}", "over")
    if kinds.get("invocation.throttled") is not None:
        yield Reason("throttled", "its function was throttled: no free concurrency", "over")
    pending = 0
    for task_id in story.tasks:
        for reason in _task(story, task_id, snapshot):
            if reason.state != "over":
                pending += 1
                if pending <= 20:
                    yield reason.about(f"{name_of(story.tasks[task_id])} [{task_id[:8]}]")


def _not_answered(kinds: dict[str, Event], snapshot: Snapshot) -> Reason:
    started = kinds.get("invocation.started")
    if started is not None and started.function is not None:
        spec, _ = snapshot.functions.get(started.function, (None, None))
        ran = snapshot.now - started.at
        left = "" if spec is None else f"; its timeout ends it after {seconds(spec.timeout_s)}"
        text = f"{started.function} has been running it for {seconds(ran)}{left}"
        return Reason("invocation-runs", text, "running", {"seconds": round(ran, 3)})
    busy = {name: state for name, (_, state) in snapshot.functions.items() if state.waiting}
    for name, state in busy.items():
        if state.starting:
            text = f"{name} is starting {state.starting} environment(s): a cold start"
            return Reason("cold-start", text, "waiting")
        return Reason(
            "concurrency", f"all {state.busy} environments of {name} are busy, and it may have "
            f"{state.limit}", "waiting", {"busy": state.busy, "limit": state.limit},
        )  # fmt: skip
    return Reason("no-invocation", "no function was invoked for it yet", "waiting")


def _task(story: Story, task_id: str, snapshot: Snapshot) -> Iterator[Reason]:
    events = story.tasks[task_id]
    last = next((e for e in reversed(events) if e.kind != "log"), events[-1])
    on_queue = [name for name in _lineage(story, task_id) if name in snapshot.messages]
    if last.kind == "task.started" and not on_queue:
        ran = snapshot.now - last.at
        yield Reason("runs", f"{last.function} has been running it for {seconds(ran)}", "running")
    elif on_queue:
        for name in on_queue:
            yield from why_queue.reasons(story, snapshot.messages[name], snapshot)
    else:
        yield _ended(last)
    yield from _chord(story, task_id)


def _lineage(story: Story, task_id: str) -> list[str]:
    """The task's messages, and those that a redrive made of them."""
    own = story.task_messages(task_id)
    return own + [
        name
        for name, events in story.messages.items()
        if name not in own and events[0].data.get("redrivenId") in own
    ]


_OVER = {
    "task.succeeded": "it succeeded",
    "task.failed": "it failed and is not tried again",
    "task.revoked": "it was revoked",
    "task.expired": "it expired before it was started",
    "task.rejected": "it was rejected",
    "task.duplicate": "it was finished before; this delivery was dropped",
}


def _ended(last: Event) -> Reason:
    text = _OVER.get(last.kind)
    if text is None:
        return Reason(
            "gone", f"its last step was {last.kind}; no queue of this machine holds its message "
            "any more (deleted, purged, expired, or on its way)", "stuck",
        )  # fmt: skip
    error = last.data.get("errorType")
    return Reason(last.kind.replace("task.", ""), f"{text}{f' ({error})' if error else ''}", "over")


def _chord(story: Story, task_id: str) -> Iterator[Reason]:
    """What a chord still waits for that this task is part of."""
    for chord in chords_of(story).values():
        if task_id not in chord.header or chord.callback in story.tasks:
            continue
        done = [
            task
            for task in chord.header
            if any(event.kind == "task.succeeded" for event in story.tasks[task])
        ]
        failed = [
            task
            for task in chord.header
            if any(event.kind == "task.failed" for event in story.tasks[task])
        ]
        left = len(chord.header) - len(done)
        if failed:
            yield Reason(
                "chord-failed", f"its chord's callback {chord.name} will not run: "
                f"{len(failed)} of {len(chord.header)} tasks failed", "over",
            )  # fmt: skip
        elif task_id in done:
            yield Reason(
                "chord-waits", f"its chord's callback {chord.name} waits for {left} of "
                f"{len(chord.header)} tasks", "waiting", {"left": left},
            )  # fmt: skip


def _message(story: Story, identity: str, snapshot: Snapshot) -> Iterator[Reason]:
    if identity in snapshot.messages:
        yield from why_queue.reasons(story, snapshot.messages[identity], snapshot)
        return
    yield why_queue.gone(story.messages.get(identity, []))
