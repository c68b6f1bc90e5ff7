"""One request as a waterfall over both lanes: a tree of spans, from the journal's events."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.journal.lines import log_parts, stack_trace
from twolane_local.journal.related_events import chords_of, collect, failure_reason, parent_of
from twolane_local.journal.tracebacks import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twolane_local.journal import Event
    from twolane_local.journal.related_events import Chord, RelatedEvents


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on the time line."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """One step from ``start`` to ``end`` (epoch seconds; ``None`` while it goes on), below
    ``parent``. docs/console.md lists the values of ``kind`` and ``state``. ``detail`` holds JSON
    values and contents with their secrets: redact it before it is shown.
    """

    id: str
    parent: str | None
    kind: str
    title: str
    lane: str
    start: float
    end: float | None
    state: str = "ok"
    marks: tuple[Mark, ...] = ()
    request_id: str | None = None
    task_id: str | None = None
    message_id: str | None = None
    function: str | None = None
    queue: str | None = None
    attempt: int | None = None
    receive_count: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """The spans of one request, task or message, parents before their children."""

    id: str
    at: float
    now: float
    spans: tuple[Span, ...]
    logs: tuple[Event, ...] = ()
    #: The number of spans beyond the limit, which are left out.
    left_out: int = 0

    @property
    def end(self) -> float:
        """The time at which the last span ended, or now while a span goes on."""
        ends = [self.now if span.end is None else span.end for span in self.spans]
        return max(ends, default=self.now)

    @property
    def running(self) -> bool:
        return any(span.end is None for span in self.spans)


#: The most spans of a trace: a campaign to a thousand addresses has four thousand.
LIMIT = 2_000


def trace(events: Iterable[Event], identity: str, *, now: float) -> Trace:
    """Trace an id or its beginning; raises ``UnknownIdError`` or ``AmbiguousIdError``."""
    related = collect(events, identity)
    spans = list(_spans(related))
    at = min((span.start for span in spans), default=now)
    if spans and related.faults:
        marks = tuple(Mark(event.at, _fault_text(event)) for event in related.faults)
        spans[0] = replace(spans[0], marks=spans[0].marks + marks)
    logs = [each for each in related.requests.get(related.root or "", ()) if each.kind == "log"]
    return Trace(
        id=related.identity, at=at, now=now, spans=tuple(spans[:LIMIT]), logs=tuple(logs),
        left_out=max(0, len(spans) - LIMIT),
    )  # fmt: skip


def _spans(related: RelatedEvents) -> Iterator[Span]:
    root: str | None = None
    if related.root is not None and related.root in related.requests:
        for span in request_spans(related.root, related.requests[related.root]):
            root = root or span.id
            yield span
    chords = chords_of(related)
    for task_id in _in_order(related):
        if task_id in chords:
            yield from _chord(related, chords[task_id], root)
        yield from task_spans(related, task_id, parent_of(related, task_id) or root)
    carried = {name for task in related.tasks for name in related.task_messages(task)}
    for message_id in related.messages:
        if message_id not in carried:
            yield from message_spans(related, message_id, root)


def _in_order(related: RelatedEvents) -> list[str]:
    """Return the tasks in the order of their first events, each after the one that published it."""
    by_time = sorted(related.tasks, key=lambda task: related.tasks[task][0].seq)
    done: dict[str, None] = {}

    def add(task: str, seen: frozenset[str]) -> None:
        parent = (parent_of(related, task) or "").removeprefix("task:")
        if parent in related.tasks and parent not in seen:
            add(parent, seen | {task})
        done[task] = None

    for task in by_time:
        add(task, frozenset({task}))
    return list(done)


def _fault_text(event: Event) -> str:
    data = event.data
    if event.kind == "clock.moved":
        return str(data.get("text", "the clock was moved"))
    return f"fault: {data.get('name', 'unnamed')}"


def request_spans(request_id: str, events: list[Event]) -> Iterator[Span]:
    """Yield the request, its invocation, its inline tasks, and its response."""
    first = {event.kind: event for event in reversed(events)}
    received, answered = first.get("request.received"), first.get("request.answered")
    parent = None
    failed = first.get("request.failed")
    if received is not None:
        parent = f"request:{request_id}"
        yield _request(parent, received, answered, failed)
    started = first.get("invocation.started")
    if started is not None:
        # Of an invocation without a request, as of one by `twolane invoke`, it is the root's.
        span = _invocation(request_id, started, first, events, parent)
        if received is None and failed is not None:
            span = replace(span, state="failed", detail={**span.detail, "error": _failure(failed)})
        yield span
        parent = parent or span.id
        yield from _inline(span, events)
    if answered is not None:
        yield _response(f"request:{request_id}", answered)


def _request(identity: str, received: Event, answered: Event | None, failed: Event | None) -> Span:
    data = received.data
    detail = {name: data.get(name) for name in ("method", "path", "query", "headers", "body")}
    state = "running"
    if answered is not None:
        state = "failed" if answered.data["status"] >= 500 or answered.data.get("error") else "ok"
        detail |= {"status": answered.data["status"], "error": answered.data.get("error")}
    if failed is not None:
        # Also of one that was answered well: what failed after its response is not in its status.
        state, detail["error"] = "failed", _failure(failed)
    return Span(
        identity, None, "request", f"{data['method']} {data['path']}", "request",
        received.at, answered.at if answered else None, state,
        request_id=received.request_id, function=answered.function if answered else None,
        detail=detail,
    )  # fmt: skip


def _failure(event: Event) -> dict[str, Any] | None:
    """Return the error of an event with a traceback: what ended a request or an inline task."""
    text = stack_trace(event)
    if not text and event.kind != "request.failed":
        return None
    message = text.strip().rpartition("\n")[2] or str(event.data.get("message", ""))
    return _error(event, message, text)


def _handler_error(responded: Event) -> dict[str, Any] | str | None:
    """Return the error object of a function whose handler raised, as the other errors are."""
    kind: str | None = responded.data.get("error")
    if kind is None:
        return None
    try:
        value = json.loads(responded.data.get("payload") or "")
        frames = "".join(map(str, value.get("stackTrace") or ()))
    except (ValueError, AttributeError, TypeError):
        return kind
    message = f"{value.get('errorType')}: {value.get('errorMessage')}"
    text = f"Traceback (most recent call last):\n{frames.rstrip()}\n{message}" if frames else ""
    return {"type": value.get("errorType"), "message": message, "traceback": text,
            "folded": fold(text), "at": responded.at}  # fmt: skip


def _error(ended: Event, message: str, text: str) -> dict[str, Any]:
    return {
        "type": ended.data.get("errorType"), "message": message, "traceback": text,
        "folded": fold(text), "at": ended.at,
    }  # fmt: skip


def _response(parent: str, answered: Event) -> Span:
    data = answered.data
    return Span(
        f"response:{answered.request_id}", parent, "response", f"response {data['status']} sent",
        "request", answered.at, answered.at, "failed" if data["status"] >= 500 else "ok",
        request_id=answered.request_id, function=answered.function,
        detail={name: data.get(name) for name in ("status", "headers", "body", "durationMs")},
    )  # fmt: skip


def _invocation(
    request_id: str,
    started: Event,
    first: dict[str, Event],
    events: list[Event],
    parent: str | None,
) -> Span:
    responded, ended = first.get("invocation.responded"), first.get("invocation.ended")
    why = failure_reason(events)
    marks = [Mark(responded.at, "response sent")] if responded else []
    if ended is not None and ended.data.get("reason"):
        marks.append(Mark(ended.at, str(ended.data["reason"])))
    cold = ", cold" if started.data.get("cold") else ""
    return Span(
        f"invocation:{request_id}", parent, "invocation", f"{started.function}{cold}", "request",
        started.at, ended.at if ended else None,
        "failed" if why else "ok" if ended else "running", tuple(marks),
        request_id=request_id, function=started.function,
        detail={
            "cold": bool(started.data.get("cold")), **(ended.data if ended else {}),
            "payload": started.data.get("payload"),
            "response": responded.data.get("payload") if responded else None,
            "error": _handler_error(responded) if responded else None,
            "logs": _logs_as_json(events),
        },
    )  # fmt: skip


def _logs_as_json(events: Iterable[Event]) -> list[dict[str, Any]]:
    return [_log_as_json(event) for event in events if event.kind == "log"]


def _log_as_json(event: Event) -> dict[str, Any]:
    text, whole = log_parts(event)
    return {
        "at": event.at,
        "level": event.data.get("level", ""),
        "logger": event.data.get("logger", ""),
        "text": text,
        **({"stackTrace": whole, "folded": fold(whole)} if whole else {}),
    }


_INLINE = {"inline.succeeded": "ok", "inline.deferred": "retried", "inline.failed": "failed",
           "inline.lost": "failed"}  # fmt: skip


def _inline(invocation: Span, events: list[Event]) -> Iterator[Span]:
    """Yield the inline tasks. They run one after the other, so an end belongs to the last start."""
    open_: Event | None = None
    number = 0
    for event in events:
        if event.kind == "inline.started":
            open_ = event
        elif event.kind.startswith("inline."):
            number += 1
            yield _inline_span(invocation, open_ or event, event, number)
            open_ = None
    if open_ is not None:
        yield _inline_span(invocation, open_, None, number + 1)


def _inline_span(invocation: Span, start: Event, end: Event | None, number: int) -> Span:
    data = (end or start).data
    ended_at = invocation.end if end is None else end.at
    return Span(
        f"{invocation.id}:inline:{number}", invocation.id, "inline",
        str(data.get("taskName", "background task")), "inline", start.at, ended_at,
        _INLINE[end.kind] if end else ("running" if invocation.end is None else "failed"),
        request_id=start.request_id, function=start.function,
        detail={
            "message": data.get("message"),
            "durationMs": data.get("durationMs"),
            "error": _failure(end) if end is not None else None,
        },
    )  # fmt: skip


def _chord(related: RelatedEvents, chord: Chord, root: str | None) -> Iterator[Span]:
    ends = [related.tasks[task][-1].at for task in chord.header if task in related.tasks]
    starts = [related.tasks[task][0].at for task in chord.header if task in related.tasks]
    published = next((e for e in related.tasks[chord.callback] if e.kind == "task.published"), None)
    yield Span(
        f"chord:{chord.callback}", root, "chord",
        f"chord: {len(chord.header)} tasks join into {chord.name}", "deferred",
        min(starts, default=0.0), published.at if published else None,
        "ok" if published else "waiting",
        (Mark(max(ends), "the last of them ended"),) if ends else (),
        task_id=chord.callback, detail={"header": list(chord.header)},
    )  # fmt: skip


_ENDS = {
    "task.succeeded": "ok", "task.failed": "failed", "task.retried": "retried",
    "task.deferred": "waiting", "task.revoked": "failed", "task.rejected": "failed",
    "task.expired": "failed", "task.duplicate": "ok", "task.returned": "retried",
}  # fmt: skip
_SETTLED = {"message.deleted": "ok", "message.returned": "retried", "message.filtered": "ok",
            "message.dead_lettered": "failed", "message.expired": "failed"}  # fmt: skip
_WORDS = {"ok": "succeeded", "failed": "failed"}


def task_spans(related: RelatedEvents, task_id: str, parent: str | None) -> Iterator[Span]:
    """Yield the task, the spans of its messages, and its result."""
    events = related.tasks[task_id]
    identity = f"task:{task_id}"
    below = [
        span
        for message_id in related.task_messages(task_id)
        for span in message_spans(related, message_id, identity, task_id)
    ]
    last = next((event for event in reversed(events) if event.kind in _ENDS), None)
    dead = any(span.kind == "dead-letter" for span in below)
    state = _state(last, below)
    end = None
    if dead or all(span.end is not None for span in below):
        end = max([events[-1].at, *(span.end for span in below if span.end is not None)])
    yield Span(
        identity, parent, "task", name_of(events), "deferred",
        min([events[0].at, *(span.start for span in below)]), end, state,
        task_id=task_id, function=last.function if last else None,
        detail={"taskId": task_id, "attempts": sum(span.kind == "attempt" for span in below)},
    )  # fmt: skip
    yield from below
    if last is not None and state in _WORDS and last.kind in ("task.succeeded", "task.failed"):
        # Celery's, about the end of the task, with the text of its result.
        lines = [str(event.data.get("message", "")) for event in events if event.kind == "log"
                 and event.data.get("logger") == "celery.app.trace"]  # fmt: skip
        yield Span(
            f"result:{task_id}", identity, "result", f"result: {_WORDS[state]}", "deferred",
            last.at, last.at, state, task_id=task_id, function=last.function,
            detail={"message": last.data.get("message"), "lines": lines},
        )  # fmt: skip


def name_of(events: list[Event]) -> str:
    """Return the task's name, from the first event that has it."""
    names = [event.data["taskName"] for event in events if event.data.get("taskName")]
    return str(names[0]) if names else "task"


def _state(last: Event | None, below: list[Span]) -> str:
    if below and (below[-1].kind == "dead-letter" or below[-1].state in ("running", "waiting")):
        return below[-1].state
    return _ENDS[last.kind] if last is not None else "waiting"


def message_spans(
    related: RelatedEvents, message_id: str, parent: str | None, task_id: str | None = None
) -> Iterator[Span]:
    """Yield the spans of one message: waiting, received, waiting again, until it is gone."""
    return _MessageSpans(related, message_id, parent, task_id).spans()


class _MessageSpans:
    """Walks through a message's events in order."""

    def __init__(
        self, related: RelatedEvents, message_id: str, parent: str | None, task_id: str | None
    ) -> None:
        self._related = related
        self._id = message_id
        self._parent = parent
        self._task = task_id
        self._events = related.messages[message_id]
        self._number = 0

    def spans(self) -> Iterator[Span]:
        since: Event | None = None  # the event from which on it waits on a queue
        received: Event | None = None
        for event in self._events:
            if event.kind == "message.sent":
                since = event
            elif event.kind == "message.received":
                if since is not None:
                    yield self._wait(since, event.at)
                since, received = None, received or event
            elif event.kind in _SETTLED:
                if received is not None:
                    yield from self._receive(received, event)
                received, since = None, event if event.kind == "message.returned" else None
                if event.kind == "message.dead_lettered":
                    # One span stands for all events on the dead-letter queue.
                    yield self._dead_letter(event)
                    return
        if received is not None:
            yield from self._receive(received, None)
        elif since is not None:
            yield self._wait(since, None)

    def _span(self, kind: str, title: str, start: float, end: float | None, state: str,
              **more: Any) -> Span:  # fmt: skip
        self._number += 1
        return Span(
            f"{kind}:{self._id}:{self._number}", more.pop("parent", self._parent), kind, title,
            "deferred", start, end, state, task_id=self._task, message_id=self._id, **more,
        )  # fmt: skip

    def _wait(self, since: Event, end: float | None) -> Span:
        delay = since.data.get("delaySeconds") or since.data.get("visibilityTimeout")
        redriven = since.data.get("redrivenFrom")
        if since.kind == "message.returned":
            title = f"back on {since.queue}"
        elif redriven:
            title = f"redriven from {redriven}"
        elif delay:
            title = f"delayed {delay:.3g} s on {since.queue}"
        else:
            title = f"on {since.queue}"
        return self._span(
            "wait" if delay or since.kind == "message.returned" else "message", title, since.at,
            end, "ok" if end is not None else "waiting", queue=since.queue,
            detail={"delaySeconds": delay, "bytes": since.data.get("bytes"),
                    "body": since.data.get("body"), "messageId": self._id},
        )  # fmt: skip

    def _receive(self, received: Event, settled: Event | None) -> Iterator[Span]:
        worker = self._worker(received)
        failed_at = worker["failedAt"] if worker is not None else None
        end = settled.at if settled else None
        if failed_at is not None and (end is None or failed_at < end):
            # For the rest of the time it is only invisible.
            end, state = failed_at, "failed"
        else:
            failed_at, state = None, _SETTLED[settled.kind] if settled else "running"
        cold = worker is not None and worker.get("cold")
        count = received.data.get("receiveCount")
        function = worker["function"] if worker is not None else None
        title = f"receive {count}" + (f" by {function}" if function else "")
        span = self._span(
            "receive", title + (", cold" if cold else ""), received.at,
            end, state, queue=received.queue, receive_count=count, function=function,
            request_id=worker["requestId"] if worker is not None else None,
            detail={**(worker or {}), "visibleAt": received.data.get("visibleAt"),
                    "messageId": self._id},
        )  # fmt: skip
        yield span
        yield from self._attempts(span, received, settled)
        if failed_at is not None:
            end = settled.at if settled else None
            yield self._span(
                "wait", f"invisible on {received.queue}", failed_at, end,
                "waiting" if end is None else "ok", queue=received.queue,
                detail={"visibleAt": received.data.get("visibleAt"), "messageId": self._id},
            )  # fmt: skip

    def _worker(self, received: Event) -> dict[str, Any] | None:
        """Return the invocation for this receive: the first one that began after it."""
        for request_id, events in self._related.requests.items():
            batch = next((e for e in events if e.kind == "batch.invoked"), None)
            if (
                batch is None
                or batch.seq < received.seq
                or self._id not in batch.data["messageIds"]
            ):
                continue
            first = {event.kind: event for event in reversed(events)}
            started, ended = first.get("invocation.started"), first.get("invocation.ended")
            responded = first.get("invocation.responded")
            return {
                "requestId": request_id,
                "function": batch.function,
                "batch": len(batch.data["messageIds"]),
                "cold": bool(started is not None and started.data.get("cold")),
                **(dict(ended.data) if ended is not None else {}),
                "failedAt": ended.at if ended is not None and failure_reason(events) else None,
                "response": responded.data.get("payload") if responded is not None else None,
            }
        return None

    def _attempts(self, receive: Span, received: Event, settled: Event | None) -> Iterator[Span]:
        begun: Event | None = None
        for event in self._events:
            if event.seq < received.seq or (settled is not None and event.seq > settled.seq):
                continue
            if event.kind == "task.started":
                begun = event
            elif event.kind in _ENDS:
                yield self._attempt(receive, begun or event, event)
                begun = None
        if begun is not None:
            yield self._attempt(receive, begun, None)

    def _attempt(self, receive: Span, begun: Event, ended: Event | None) -> Span:
        number = begun.data.get("attempt")
        end: float | None
        if ended is not None:
            end, state, how = ended.at, _ENDS[ended.kind], ended.kind.partition(".")[2]
        else:
            end, state, how = self._missing_end(begun)
        title = f"attempt {number}: {how}" if number else how
        logs = self._logs(begun, ended)
        return self._span(
            "attempt", title, begun.at, end, state,
            parent=receive.id, queue=begun.queue, attempt=number, function=begun.function,
            request_id=begun.request_id, receive_count=receive.receive_count,
            marks=(Mark(ended.at, how),) if ended is not None else (),
            detail={
                "durationMs": ended.data.get("durationMs") if ended else None,
                "waitSeconds": ended.data.get("waitSeconds") if ended else None,
                "error": error_of(ended, logs),
                "logs": _logs_as_json(logs),
            },
        )  # fmt: skip

    def _missing_end(self, begun: Event) -> tuple[float | None, str, str]:
        """Return end, state and outcome of an attempt without an end event."""
        events = self._related.requests.get(begun.request_id or "", [])
        ended = next((event for event in events if event.kind == "invocation.ended"), None)
        if ended is None:
            return None, "running", "running"
        return ended.at, "failed", failure_reason(events) or "cut off"

    def _logs(self, begun: Event, ended: Event | None) -> list[Event]:
        if self._task is None or self._task not in self._related.tasks:
            return []
        return [
            event
            for event in self._related.tasks[self._task]
            if event.kind == "log" and event.request_id == begun.request_id
            and event.seq > begun.seq and (ended is None or event.seq < ended.seq)
        ]  # fmt: skip

    def _dead_letter(self, event: Event) -> Span:
        queue = str(event.data.get("deadLetterQueue", event.queue))
        after = [e for e in self._events if e.seq > event.seq]
        gone = next((e for e in after if e.kind in ("message.deleted", "message.expired")), None)
        moved = f", redriven to {gone.data['redrivenTo']}" if gone and gone.data.get(
            "redrivenTo") else ""  # fmt: skip
        return self._span(
            "dead-letter", f"dead letter on {queue}{moved}", event.at, gone.at if gone else None,
            "failed", queue=queue, receive_count=event.data.get("receiveCount"),
            detail={"receiveCount": event.data.get("receiveCount"), "messageId": self._id},
        )  # fmt: skip


def error_of(ended: Event | None, logs: list[Event]) -> dict[str, Any] | None:
    """Return the error that ended an attempt: type, message and traceback, from its log."""
    if ended is None or ended.kind == "task.succeeded":
        return None
    traced = next((event for event in reversed(logs) if stack_trace(event)), None)
    kind = ended.data.get("errorType")
    text = stack_trace(ended) or (stack_trace(traced) if traced is not None else "")
    if kind is None and not text:
        return None
    message = text.strip().rpartition("\n")[2] if text else str(ended.data.get("message", ""))
    return _error(ended, message, text)
