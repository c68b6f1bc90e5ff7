"""Explains from an id's events and a snapshot of queues and functions why it does not move."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.journal.related_events import chords_of, collect, failure_reason, resolve
from twolane_local.journal.trace import name_of
from twolane_local.model.lineage import LIMIT
from twolane_local.model.states import DELAYED, IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twolane_local.journal import Event
    from twolane_local.journal.related_events import RelatedEvents
    from twolane_local.model.states import MappingState, MessageState, QueueState, Snapshot


@dataclass(frozen=True, slots=True)
class Reason:
    """``code`` is for programs, ``text`` for people, ``numbers`` for both. ``state``: ``running``,
    ``waiting`` (it will move by itself), ``stuck`` (it will not) or ``over``.
    """

    code: str
    text: str
    state: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def about(self, subject: str) -> Reason:
        return replace(self, text=f"{subject}: {self.text}")

    def as_dict(self) -> dict[str, Any]:
        return {**self.numbers, "code": self.code, "text": self.text, "state": self.state}


def seconds(value: float) -> str:
    """Return a time span for people: ``1.5 s``, ``41 s``, ``3 min``, ``2.0 h``."""
    value = max(0.0, value)
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7_200 else f"{value / 3_600:.1f} h"


def message_reasons(
    related: RelatedEvents, message: MessageState, snapshot: Snapshot
) -> Iterator[Reason]:
    """Yield the reasons why a message is on its queue, the most important first."""
    queue = snapshot.queues[message.queue]
    if message.state == IN_FLIGHT:
        yield from _in_flight(related, message, queue, snapshot)
    elif message.state == DELAYED:
        yield _delayed(related, message, snapshot)
    elif queue.dead_letter_of and not queue.mappings:
        yield _dead_letter(related, message, queue)
        return
    else:
        yield _visible(message, queue, snapshot)
    if snapshot.paused:
        yield Reason("paused", "the emulator's clock is paused: nothing more becomes due", "stuck")


_FAILED = ("task.failed", "task.rejected", "task.returned", "task.retried")


def last_failure(related: RelatedEvents, message_id: str) -> str:
    """Return ``, since … failed with …``, or an empty text if no failure is known."""
    if dropped := _not_invoked(related, message_id, "invocation.dropped"):
        return (
            f", since Lambda's recursive-loop detection does not invoke {dropped} for it: its "
            f"chain of requests has invoked {dropped} {LIMIT} times (RecursiveLoop: Allow on the "
            "function lets it go on)"
        )
    ends = [event for event in related.messages.get(message_id, ()) if event.kind in _FAILED]
    # A task that is rejected after it failed reports its error only the first time.
    failures = [event for event in ends if event.data.get("errorType")] or ends
    if failures:
        event = failures[-1]
        kind = event.data.get("errorType")
        kind = retry_cause(related, event.task_id) if kind == "Retry" else kind
        text = str(event.data.get("message", "failed")).lstrip("! ")
        function = event.function or "the worker"
        return f", since {function} failed with {kind}" if kind else f", since {text}"
    for batch, events in reversed(_batches(related, message_id)):
        if why := failure_reason(events):
            how = f": {why}" if " " in why else f" with {why}"
            return f", since {batch.function} failed{how}"
    return ""


def retry_cause(related: RelatedEvents, task_id: str | None) -> str:
    """Return the cause of a retry from Celery's log: ``Retry in 1s: ValueError('…')``."""
    for event in reversed(related.tasks.get(task_id or "", ())):
        if event.kind == "log" and event.data.get("logger") == "celery.app.trace":
            text = str(event.data.get("message", ""))
            _, found, cause = text.partition("retry: Retry in ")
            if found:
                return cause.partition(": ")[2]
    return ""


def _batches(related: RelatedEvents, message_id: str) -> list[tuple[Event, list[Event]]]:
    """Return the batches with the message: ``batch.invoked``, and all events of the invocation."""
    return [
        (event, events)
        for events in related.requests.values()
        if (event := next((e for e in events if e.kind == "batch.invoked"), None)) is not None
        and message_id in event.data["messageIds"]
    ]


def _in_flight(
    related: RelatedEvents, message: MessageState, queue: QueueState, snapshot: Snapshot
) -> Iterator[Reason]:
    left = message.visible_at - snapshot.now
    most = f" of {queue.max_receives}" if queue.max_receives else ""
    numbers = {
        "receiveCount": message.receive_count, "maxReceiveCount": queue.max_receives,
        "secondsLeft": round(left, 3),
    }  # fmt: skip
    where = f"in flight at receive {message.receive_count}{most} on {queue.name}"
    throttled = _not_invoked(related, message.id, "invocation.throttled")
    dropped = _not_invoked(related, message.id, "invocation.dropped")
    batches = _batches(related, message.id)
    if batches and not throttled and not dropped:
        batch, events = max(batches, key=lambda each: each[0].seq)
        if not any(event.kind == "invocation.ended" for event in events):
            text = f"{where}; {batch.function} has had it for {seconds(snapshot.now - batch.at)}"
            yield Reason("runs", text, "running", numbers)
            return
    last = queue.max_receives is not None and message.receive_count >= queue.max_receives
    then = (
        f"then it goes to {queue.dead_letter_queue}" if last and queue.dead_letter_queue
        else "then it is received again"
    )  # fmt: skip
    why = f", since {throttled} was throttled" if throttled else last_failure(related, message.id)
    text = f"{where}; visible again in {seconds(left)}{why}; {then}"
    code = "throttled" if throttled else "recursive-loop" if dropped else "in-flight"
    yield Reason(code, text, "waiting", numbers)


def _not_invoked(related: RelatedEvents, message_id: str, kind: str) -> str:
    """Return the function of the message's last batch if that has an event of ``kind``."""
    for batch, events in reversed(_batches(related, message_id)):
        return str(batch.function) if any(event.kind == kind for event in events) else ""
    return ""


def _delayed(related: RelatedEvents, message: MessageState, snapshot: Snapshot) -> Reason:
    left = message.visible_at - snapshot.now
    events = related.messages.get(message.id, ())
    tasks = {event.task_id for event in events if event.task_id}
    retried = next(
        (
            event
            for task in tasks
            for event in reversed(related.tasks.get(task, ()))
            if event.kind == "task.retried"
        ),
        None,
    )
    why = ""
    if retried is not None:
        cause = retry_cause(related, retried.task_id)
        why = ": it will be retried" + (f" since it failed with {cause}" if cause else "")
    text = f"delayed on {message.queue}; visible in {seconds(left)}{why}"
    return Reason("delayed", text, "waiting", {"secondsLeft": round(left, 3)})


def _dead_letter(related: RelatedEvents, message: MessageState, queue: QueueState) -> Reason:
    sources = " and ".join(queue.dead_letter_of)
    received = message.receive_count
    how = (
        f"after {received} receives{last_failure(related, message.id)}"
        if received
        else "unreceived"
    )
    text = f"on {queue.name}, the dead-letter queue of {sources}, {how}; only a redrive moves it"
    dropped = _not_invoked(related, message.id, "invocation.dropped")
    code = "recursive-loop" if dropped else "dead-letter"
    return Reason(code, text, "stuck", {"receiveCount": received})


def _visible(message: MessageState, queue: QueueState, snapshot: Snapshot) -> Reason:
    enabled = [mapping for mapping in queue.mappings if mapping.enabled]
    if not queue.mappings:
        text = f"no mapping reads this queue ({queue.name}); it waits until something receives it"
        return Reason("no-mapping", text, "stuck")
    if not enabled:
        names = ", ".join(mapping.function for mapping in queue.mappings)
        text = f"the mapping of {queue.name} to {names} is disabled; enable it"
        return Reason("mapping-disabled", text, "stuck")
    if queue.fifo and message.message.group_id is not None and queue.in_flight:
        text = (
            f"on {queue.name}; FIFO: it waits until the messages in flight of its message group "
            f"({message.message.group_id}) are done; {queue.in_flight} in flight on the queue"
        )
        return Reason("fifo-group", text, "waiting", {"inFlight": queue.in_flight})
    for mapping in enabled:
        limited = _mapping_limit(mapping, queue)
        if limited is not None:
            return limited
        pool = snapshot.functions.get(mapping.function)
        if pool is not None and pool[1].waiting and not pool[1].starting:
            text = f"all {pool[1].busy} environments of {mapping.function} are busy"
            return Reason("concurrency", text, "waiting", {"busy": pool[1].busy})
    return _next(message, queue)


def _next(message: MessageState, queue: QueueState) -> Reason:
    group = message.message.group_id
    if group is not None and (own := queue.noisy.get(group)) is not None:
        others = queue.visible - own
        text = (
            f"visible on {queue.name}; its message group ({group}) is noisy, so that messages of "
            f"quiet groups come first; {others} are visible, and {own} of its own"
        )
        return Reason("noisy-group", text, "waiting", {"ahead": others})
    ahead = max(0, queue.visible - 1)
    text = f"visible on {queue.name}, to be received next; {ahead} others are visible"
    return Reason("next", text, "waiting", {"ahead": ahead})


def _mapping_limit(mapping: MappingState, queue: QueueState) -> Reason | None:
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
        "the mapping's filter does not match it, and Lambda deletes such messages ({queue})",
    ),
    "message.expired": ("expired", "the retention period of {queue} was over"),
}  # fmt: skip


def gone_reason(events: list[Event]) -> Reason:
    """Return what happened to a message that is on no queue."""
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
    """``moving`` is false if nothing will happen by itself, or if all is over."""

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
    """Explain an id's state. Raises ``UnknownIdError`` or ``AmbiguousIdError``."""
    steps = tuple(events)
    identity, kind = resolve(steps, identity)
    related = collect(steps, identity)
    find = {"request": _request, "task": _task, "message": _message}[kind]
    reasons = tuple(find(related, identity, snapshot))
    states = [reason.state for reason in reasons]
    state = next((s for s in ("stuck", "running", "waiting") if s in states), "over")
    return Answer(identity, kind, state, reasons)


def _request(related: RelatedEvents, identity: str, snapshot: Snapshot) -> Iterator[Reason]:
    events = related.requests.get(identity, [])
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
    if ended is not None and (why := failure_reason(events)):
        yield Reason("failed", f"the invocation of {ended.function} failed: {why}", "over")
    if kinds.get("invocation.throttled") is not None:
        yield Reason("throttled", "its function was throttled: no free concurrency", "over")
    pending = 0
    for task_id in related.tasks:
        for reason in _task(related, task_id, snapshot):
            if reason.state != "over":
                pending += 1
                if pending <= 20:
                    yield reason.about(f"{name_of(related.tasks[task_id])} [{task_id[:8]}]")


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


def _task(related: RelatedEvents, task_id: str, snapshot: Snapshot) -> Iterator[Reason]:
    events = related.tasks[task_id]
    last = next((e for e in reversed(events) if e.kind != "log"), events[-1])
    on_queue = [name for name in _lineage(related, task_id) if name in snapshot.messages]
    if last.kind == "task.started" and not on_queue:
        ran = snapshot.now - last.at
        yield Reason("runs", f"{last.function} has been running it for {seconds(ran)}", "running")
    elif on_queue:
        for name in on_queue:
            yield from message_reasons(related, snapshot.messages[name], snapshot)
    else:
        yield _ended(last)
    yield from _chord(related, task_id)


def _lineage(related: RelatedEvents, task_id: str) -> list[str]:
    """Return the task's messages, and their copies that a redrive made."""
    own = related.task_messages(task_id)
    return own + [
        name
        for name, events in related.messages.items()
        if name not in own and events[0].data.get("redrivenId") in own
    ]


_OVER = {
    "task.succeeded": "it succeeded",
    "task.failed": "it failed and is not retried",
    "task.revoked": "it was revoked",
    "task.expired": "it expired before it was started",
    "task.rejected": "it was rejected",
    "task.duplicate": "it was finished before; this delivery was dropped",
}


def _ended(last: Event) -> Reason:
    text = _OVER.get(last.kind)
    if text is None:
        return Reason(
            "gone", f"its last step was {last.kind}; its message is on no queue of this machine "
            "any more (deleted, purged, expired, or on its way)", "stuck",
        )  # fmt: skip
    error = last.data.get("errorType")
    return Reason(last.kind.replace("task.", ""), f"{text}{f' ({error})' if error else ''}", "over")


def _chord(related: RelatedEvents, task_id: str) -> Iterator[Reason]:
    """Yield what the chords of this task still wait for."""
    for chord in chords_of(related).values():
        if task_id not in chord.header or chord.callback in related.tasks:
            continue
        kinds = {task: {event.kind for event in related.tasks[task]} for task in chord.header}
        done = [task for task in chord.header if "task.succeeded" in kinds[task]]
        failed = [task for task in chord.header if "task.failed" in kinds[task]]
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


def _message(related: RelatedEvents, identity: str, snapshot: Snapshot) -> Iterator[Reason]:
    if identity in snapshot.messages:
        yield from message_reasons(related, snapshot.messages[identity], snapshot)
        return
    yield gone_reason(related.messages.get(identity, []))
