"""Why something does not move, in a sentence with the numbers: a pure function.

Reads the story of an id (the journal) and the state of queues, mappings and functions at one
moment; knows nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.journal.outcome import failure
from twolane_local.journal.related_events import chords_of, collect, resolve
from twolane_local.journal.trace import name_of
from twolane_local.model.lineage import LIMIT
from twolane_local.model.states import DELAYED, IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twolane_local.journal import Event
    from twolane_local.journal.related_events import Story
    from twolane_local.model.states import MappingState, MessageState, QueueState, Snapshot


@dataclass(frozen=True, slots=True)
class Reason:
    """``code`` for programs, ``text`` for people, ``numbers`` for both.

    ``state`` is ``running``, ``waiting`` (time or others will move it), ``stuck`` (nothing will)
    or ``over``.
    """

    code: str
    text: str
    state: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def about(self, subject: str) -> Reason:
        """The same, saying of what."""
        return replace(self, text=f"{subject}: {self.text}")

    def as_dict(self) -> dict[str, Any]:
        """As the control API answers."""
        return {**self.numbers, "code": self.code, "text": self.text, "state": self.state}


def seconds(value: float) -> str:
    """A span of time as people say it."""
    value = max(0.0, value)
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7_200 else f"{value / 3_600:.1f} h"


def reasons(story: Story, message: MessageState, snapshot: Snapshot) -> Iterator[Reason]:
    """What holds the message, the foremost reason first."""
    queue = snapshot.queues[message.queue]
    if message.state == IN_FLIGHT:
        yield from _in_flight(story, message, queue, snapshot)
    elif message.state == DELAYED:
        yield _delayed(story, message, snapshot)
    elif queue.dead_letter_of and not queue.mappings:
        yield _dead(story, message, queue)
        return
    else:
        yield _visible(message, queue, snapshot)
    if snapshot.paused:
        yield Reason("paused", "the emulator's clock is paused: nothing more becomes due", "stuck")


_FAILED = ("task.failed", "task.rejected", "task.returned", "task.retried")


def last_failure(story: Story, message_id: str) -> str:
    """``since … failed with …``, or nothing where no failure is known."""
    if dropped := _refused(story, message_id, "invocation.dropped"):
        return f", since {_recursive(dropped)}"
    ends = [event for event in story.messages.get(message_id, ()) if event.kind in _FAILED]
    # A task that is refused after it failed says why only the first time.
    telling = [event for event in ends if event.data.get("errorType")] or ends
    if telling:
        event = telling[-1]
        kind = event.data.get("errorType")
        kind = retry_cause(story, event.task_id) if kind == "Retry" else kind
        said = str(event.data.get("message", "failed")).lstrip("! ")
        who = event.function or "the worker"
        return f", since {who} failed with {kind}" if kind else f", since {said}"
    for events in reversed(tuple(story.requests.values())):
        batch = next((e for e in events if e.kind == "batch.invoked"), None)
        if batch is None or message_id not in batch.data["messageIds"]:
            continue
        if why := failure(events):
            how = f": {why}" if " " in why else f" with {why}"
            return f", since {batch.function} failed{how}"
    return ""


def retry_cause(story: Story, task_id: str | None) -> str:
    """Why Celery tries a task again, in its own words: ``Retry in 1s: ValueError('…')``."""
    for event in reversed(story.tasks.get(task_id or "", ())):
        said = str(event.data.get("message", ""))
        if event.kind == "log" and event.data.get("logger") == "celery.app.trace":
            _, found, cause = said.partition("retry: Retry in ")
            if found:
                return cause.partition(": ")[2]
    return ""


def _invocation(story: Story, message_id: str) -> tuple[Event | None, bool]:
    """The latest batch that the message was in, and whether its invocation is over."""
    latest: Event | None = None
    over = False
    for events in story.requests.values():
        batch = next((e for e in events if e.kind == "batch.invoked"), None)
        if batch is None or message_id not in batch.data["messageIds"]:
            continue
        if latest is None or batch.seq > latest.seq:
            latest, over = batch, any(e.kind == "invocation.ended" for e in events)
    return latest, over


def _in_flight(
    story: Story, message: MessageState, queue: QueueState, snapshot: Snapshot
) -> Iterator[Reason]:
    left = message.visible_at - snapshot.now
    most = f" of {queue.max_receives}" if queue.max_receives else ""
    numbers = {
        "receiveCount": message.receive_count, "maxReceiveCount": queue.max_receives,
        "secondsLeft": round(left, 3),
    }  # fmt: skip
    where = f"in flight at receive {message.receive_count}{most} on {queue.name}"
    batch, over = _invocation(story, message.id)
    throttled = _refused(story, message.id, "invocation.throttled")
    dropped = _refused(story, message.id, "invocation.dropped")
    if batch is not None and not over and not throttled and not dropped:
        text = f"{where}; {batch.function} has had it for {seconds(snapshot.now - batch.at)}"
        yield Reason("runs", text, "running", numbers)
        return
    last = queue.max_receives is not None and message.receive_count >= queue.max_receives
    then = (
        f"then it goes to {queue.dead_letter_queue}" if last and queue.dead_letter_queue
        else "then it is received again"
    )  # fmt: skip
    why = f", since {throttled} was throttled" if throttled else last_failure(story, message.id)
    text = f"{where}; visible again in {seconds(left)}{why}; {then}"
    code = "throttled" if throttled else "recursive-loop" if dropped else "in-flight"
    yield Reason(code, text, "waiting", numbers)


def _recursive(function: str) -> str:
    return (
        f"Lambda's recursive-loop detection does not invoke {function} for it: its chain of "
        f"requests has invoked {function} {LIMIT} times (RecursiveLoop: Allow on the function "
        "lets it go on)"
    )


def _refused(story: Story, message_id: str, kind: str) -> str:
    """The function that was not invoked with the message's latest batch, if that is so."""
    for events in reversed(tuple(story.requests.values())):
        batch = next((e for e in events if e.kind == "batch.invoked"), None)
        if batch is None or message_id not in batch.data["messageIds"]:
            continue
        kinds = {event.kind for event in events}
        return str(batch.function) if kind in kinds else ""
    return ""


def _delayed(story: Story, message: MessageState, snapshot: Snapshot) -> Reason:
    left = message.visible_at - snapshot.now
    events = story.messages.get(message.id, ())
    tasks = {event.task_id for event in events if event.task_id}
    retried = next(
        (
            event
            for task in tasks
            for event in reversed(story.tasks.get(task, ()))
            if event.kind == "task.retried"
        ),
        None,
    )
    kind = retry_cause(story, retried.task_id) if retried is not None else None
    why = ""
    if retried is not None:
        why = ": it is tried again" + (f" since it failed with {kind}" if kind else "")
    text = f"delayed on {message.queue}; visible in {seconds(left)}{why}"
    return Reason("delayed", text, "waiting", {"secondsLeft": round(left, 3)})


def _dead(story: Story, message: MessageState, queue: QueueState) -> Reason:
    sources = " and ".join(queue.dead_letter_of)
    received = message.receive_count
    how = (
        f"after {received} receives{last_failure(story, message.id)}" if received else "unreceived"
    )
    text = f"on {queue.name}, the dead-letter queue of {sources}, {how}; only a redrive moves it"
    dropped = _refused(story, message.id, "invocation.dropped")
    return Reason(
        "recursive-loop" if dropped else "dead-letter",
        text,
        "stuck",
        {"receiveCount": message.receive_count},
    )


def _visible(message: MessageState, queue: QueueState, snapshot: Snapshot) -> Reason:
    enabled = [mapping for mapping in queue.mappings if mapping.enabled]
    if not queue.mappings:
        text = f"no mapping reads this queue ({queue.name}); it waits for somebody to receive it"
        return Reason("no-mapping", text, "stuck")
    if not enabled:
        names = ", ".join(mapping.function for mapping in queue.mappings)
        text = f"the mapping of {queue.name} to {names} is disabled; enable it"
        return Reason("mapping-disabled", text, "stuck")
    if queue.fifo and message.message.group_id is not None and queue.in_flight:
        text = (
            f"on {queue.name}; FIFO: it waits until what is in flight of its message group "
            f"({message.message.group_id}) is done; {queue.in_flight} in flight on the queue"
        )
        return Reason("fifo-group", text, "waiting", {"inFlight": queue.in_flight})
    for mapping in enabled:
        full = _full(mapping, queue)
        if full is not None:
            return full
        pool = snapshot.functions.get(mapping.function)
        if pool is not None and pool[1].waiting and not pool[1].starting:
            text = f"all {pool[1].busy} environments of {mapping.function} are busy"
            return Reason("concurrency", text, "waiting", {"busy": pool[1].busy})
    ahead = max(0, queue.visible - 1)
    text = f"visible on {queue.name}, to be received next; {ahead} others are visible"
    return Reason("next", text, "waiting", {"ahead": ahead})


def _full(mapping: MappingState, queue: QueueState) -> Reason | None:
    if mapping.under_way < mapping.allowed:
        return None
    numbers = {"underWay": mapping.under_way, "visible": queue.visible}
    most = mapping.maximum_concurrency
    if most is not None and mapping.allowed >= most:
        text = (
            f"mapping is at MaximumConcurrency {most}: {mapping.under_way} batches are with "
            f"{mapping.function}, {queue.visible} messages wait on {queue.name}"
        )
        return Reason(
            "maximum-concurrency", text, "waiting", {**numbers, "maximumConcurrency": most}
        )
    text = (
        f"the mapping may have {mapping.allowed} batches under way and has {mapping.under_way}; "
        f"it grows with the backlog ({queue.visible} messages wait on {queue.name})"
    )
    return Reason("scaling", text, "waiting", {**numbers, "allowed": mapping.allowed})


_GONE = {
    "message.deleted": ("done", "it was done and deleted at receive {count} on {queue}"),
    "message.filtered": (
        "filtered",
        "the mapping's filter refuses it, and Lambda deletes what a filter refuses ({queue})",
    ),
    "message.expired": ("expired", "the retention period of {queue} was over"),
}  # fmt: skip


def gone(events: list[Event]) -> Reason:
    """What became of a message that no queue holds."""
    for event in reversed(events):
        if event.kind in _GONE:
            code, text = _GONE[event.kind]
            if event.data.get("redrivenTo"):
                to, new = event.data["redrivenTo"], event.data.get("redrivenId", "")
                return Reason("redriven", f"redriven to {to} as message {new}", "over")
            count = event.data.get("receiveCount")
            return Reason(code, text.format(count=count, queue=event.queue), "over")
    return Reason("gone", "no queue holds it any more: purged, or its queue was deleted", "over")


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
            yield from reasons(story, snapshot.messages[name], snapshot)
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
        yield from reasons(story, snapshot.messages[identity], snapshot)
        return
    yield gone(story.messages.get(identity, []))
