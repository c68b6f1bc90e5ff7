"""One request as a waterfall over both lanes: the journal's events in, a tree of spans out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.console.canvas import chords_of, parent_of
from twolane_local.console.outcome import failure
from twolane_local.console.spans import Mark, Span, Trace
from twolane_local.console.story import collect
from twolane_local.console.task_spans import message_spans, task_spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twolane_local.console.canvas import Chord
    from twolane_local.console.story import Story
    from twolane_local.journal import Event

#: A campaign to a thousand addresses is four thousand spans: nobody reads more.
LIMIT = 2_000


def trace(events: Iterable[Event], identity: str, *, now: float) -> Trace:
    """The story of a request, task or message id, or of one that begins so.

    Raises ``UnknownIdError`` or ``AmbiguousIdError``, both ``LookupError``.
    """
    story = collect(events, identity)
    spans = list(_all(story))
    at = min((span.start for span in spans), default=now)
    if spans and story.faults:
        spans[0] = _marked(spans[0], story.faults)
    logs = [
        e for each in story.requests.get(story.root or "", ()) for e in [each] if e.kind == "log"
    ]
    return Trace(
        id=story.identity, at=at, now=now, spans=tuple(spans[:LIMIT]), logs=tuple(logs),
        left_out=max(0, len(spans) - LIMIT),
    )  # fmt: skip


def _all(story: Story) -> Iterator[Span]:
    root: str | None = None
    if story.root is not None and story.root in story.requests:
        for span in request_spans(story.root, story.requests[story.root]):
            root = root or span.id
            yield span
    chords = chords_of(story)
    for task_id in _in_order(story):
        if task_id in chords:
            yield from _chord(story, chords[task_id], root)
        yield from task_spans(story, task_id, parent_of(story, task_id) or root)
    carried = {name for task in story.tasks for name in story.task_messages(task)}
    for message_id in story.messages:
        if message_id not in carried:
            yield from message_spans(story, message_id, root)


def _in_order(story: Story) -> list[str]:
    """Tasks by their first event, each after the one that published it."""
    by_time = sorted(story.tasks, key=lambda task: story.tasks[task][0].seq)
    done: dict[str, None] = {}

    def add(task: str, seen: frozenset[str]) -> None:
        parent = (parent_of(story, task) or "").removeprefix("task:")
        if parent in story.tasks and parent not in seen:
            add(parent, seen | {task})
        done[task] = None

    for task in by_time:
        add(task, frozenset({task}))
    return list(done)


def _marked(span: Span, faults: list[Event]) -> Span:
    from dataclasses import replace

    marks = tuple(Mark(event.at, fault_text(event)) for event in faults)
    return replace(span, marks=span.marks + marks)


def fault_text(event: Event) -> str:
    """What happened to the time line itself."""
    data = event.data
    if event.kind == "clock.moved":
        return str(data.get("text", "the clock was moved"))
    return f"fault: {data.get('name', 'unnamed')}"


def request_spans(request_id: str, events: list[Event]) -> Iterator[Span]:
    """The request, its invocation, its response, and the inline tasks that follow."""
    first = {kind: e for e in reversed(events) for kind in [e.kind]}
    received, answered = first.get("request.received"), first.get("request.answered")
    parent = None
    if received is not None:
        parent = f"request:{request_id}"
        yield _request(parent, received, answered)
    started = first.get("invocation.started")
    if started is not None:
        span = _invocation(request_id, started, first, events, parent)
        yield span
        parent = parent or span.id
        yield from _inline(span, events)
    if answered is not None:
        yield _response(f"request:{request_id}", answered)


def _request(identity: str, received: Event, answered: Event | None) -> Span:
    data = received.data
    detail = {name: data.get(name) for name in ("method", "path", "query", "headers", "body")}
    state = "running"
    if answered is not None:
        state = "failed" if answered.data["status"] >= 500 or answered.data.get("error") else "ok"
        detail |= {"status": answered.data["status"], "error": answered.data.get("error")}
    return Span(
        identity, None, "request", f"{data['method']} {data['path']}", "request",
        received.at, answered.at if answered else None, state,
        request_id=received.request_id, function=answered.function if answered else None,
        detail=detail,
    )  # fmt: skip


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
    why = failure(events)
    marks = [Mark(responded.at, "response sent")] if responded else []
    if ended is not None and ended.data.get("reason"):
        marks.append(Mark(ended.at, str(ended.data["reason"])))
    cold = ", cold" if started.data.get("cold") else ""
    return Span(
        f"invocation:{request_id}", parent, "invocation", f"{started.function}{cold}", "request",
        started.at, ended.at if ended else None,
        "failed" if why else "ok" if ended else "running", tuple(marks),
        request_id=request_id, function=started.function,
        detail={**invocation_detail(started, responded, ended), "logs": log_lines(events)},
    )  # fmt: skip


def invocation_detail(
    started: Event, responded: Event | None, ended: Event | None
) -> dict[str, Any]:
    """The figures and contents of an invocation."""
    figures = dict(ended.data) if ended else {}
    return {
        "cold": bool(started.data.get("cold")),
        **figures,
        "payload": started.data.get("payload"),
        "response": responded.data.get("payload") if responded else None,
        "error": responded.data.get("error") if responded else None,
    }


def log_lines(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The log lines among events, as much of each as is for people."""
    return [
        {
            "at": event.at,
            "level": event.data.get("level", ""),
            "logger": event.data.get("logger", ""),
            "text": str(event.data.get("message") or event.data.get("line", "")),
            **({"stackTrace": event.data["stackTrace"]} if event.data.get("stackTrace") else {}),
        }
        for event in events
        if event.kind == "log"
    ]


def _inline(invocation: Span, events: list[Event]) -> Iterator[Span]:
    """Inline tasks run one after the other, so that the next end belongs to the last start."""
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


_INLINE = {"inline.succeeded": "ok", "inline.deferred": "retried", "inline.failed": "failed",
           "inline.lost": "failed"}  # fmt: skip


def _inline_span(invocation: Span, start: Event, end: Event | None, number: int) -> Span:
    told = (end or start).data
    over = invocation.end if end is None else end.at
    return Span(
        f"{invocation.id}:inline:{number}", invocation.id, "inline",
        str(told.get("taskName", "background task")), "inline", start.at, over,
        _INLINE[end.kind] if end else ("running" if invocation.end is None else "failed"),
        request_id=start.request_id, function=start.function,
        detail={
            "message": told.get("message"),
            "durationMs": told.get("durationMs"),
            "error": {"type": told.get("errorType"), "traceback": told.get("stackTrace")}
            if told.get("stackTrace") else None,
        },
    )  # fmt: skip


def _chord(story: Story, chord: Chord, root: str | None) -> Iterator[Span]:
    ends = [story.tasks[task][-1].at for task in chord.header if task in story.tasks]
    starts = [story.tasks[task][0].at for task in chord.header if task in story.tasks]
    published = next((e for e in story.tasks[chord.callback] if e.kind == "task.published"), None)
    yield Span(
        f"chord:{chord.callback}", root, "chord",
        f"chord: {len(chord.header)} tasks join into {chord.name}", "deferred",
        min(starts, default=0.0), published.at if published else None,
        "ok" if published else "waiting",
        (Mark(max(ends), "the last of them ended"),) if ends else (),
        task_id=chord.callback, detail={"header": list(chord.header)},
    )  # fmt: skip
