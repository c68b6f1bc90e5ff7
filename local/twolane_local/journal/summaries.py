"""The latest requests, ticks and invocations, for the console's list. A pure function of events."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.journal.filters import Filter, contains_text
from twolane_local.journal.related_events import is_failure
from twolane_local.journal.task_counts import RepeatedFailures
from twolane_local.model.states import camel_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twolane_local.journal import Event

#: The most events that are read for one answer.
LOOK = 20_000
_COUNTED = {"task.published": "published", "task.succeeded": "succeeded", "task.failed": "failed",
            "task.rejected": "failed", "task.retried": "retried", "task.started": "started",
            "inline.started": "inline", "inline.failed": "inlineFailed"}  # fmt: skip
_STARTS = ("request.received", "invocation.started")
#: The console's own request for beat's entries, which is left out.
_LIST_ENTRIES = '{"twolane": {"list"'


@dataclass(frozen=True, slots=True)
class Summary:
    """One request, tick or direct invocation."""

    id: str
    seq: int
    at: float
    kind: str
    title: str
    function: str | None
    status: int | None
    duration_ms: float | None
    state: str
    tasks: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {**camel_case(self), "tasks": dict(self.tasks)}


def summaries(
    events: Sequence[Event], wanted: Filter | None = None, *, limit: int = 50, before: int = 0
) -> list[Summary]:
    """Return the latest first. A worker's invocations count as part of the publishing request."""
    wanted = wanted or Filter()
    plain = wanted == Filter() and not before
    starts, by_request, tasks = _gather(_latest(events, limit) if plain else events[-LOOK:])
    found = []
    for start in reversed(starts):
        if before and start.seq >= before:
            continue
        identity = start.request_id or ""
        summary = _summary(start, by_request[identity], tasks.get(identity, Counter()))
        if _matches(summary, by_request[identity], wanted):
            found.append(summary)
        if len(found) == limit:
            break
    return found


def _latest(events: Sequence[Event], limit: int) -> Sequence[Event]:
    """Return the end of the events that holds the beginnings of ``limit`` requests."""
    found = 0
    for index in range(len(events) - 1, max(-1, len(events) - LOOK), -1):
        kind = events[index].kind
        if kind in {"request.received", "tick"}:
            found += 1
            if found > limit:
                return events[index:]
    return events[-LOOK:]


def _gather(
    events: Sequence[Event],
) -> tuple[list[Event], dict[str, dict[str, Event]], dict[str, Counter[str]]]:
    starts: list[Event] = []
    by_request: dict[str, dict[str, Event]] = {}
    tasks: dict[str, Counter[str]] = {}
    batches: set[str] = set()
    repeats = RepeatedFailures()
    for event in events:
        identity = event.request_id
        if event.kind == "batch.invoked" and identity is not None:
            batches.add(identity)
        elif identity is not None and identity not in batches:
            known = by_request.get(identity)
            if known is None and event.kind in _STARTS and not _lists_entries(event):
                by_request[identity] = known = {}
                starts.append(event)
            if known is not None:
                known.setdefault(event.kind, event)
        if event.kind in _COUNTED and not repeats(event):
            origin = event.data.get("originRequestId") or identity
            tasks.setdefault(str(origin), Counter())[_COUNTED[event.kind]] += 1
    return starts, by_request, tasks


def _lists_entries(event: Event) -> bool:
    payload = event.data.get("payload")
    start = _LIST_ENTRIES if isinstance(payload, str) else _LIST_ENTRIES.encode()
    return payload is not None and payload.startswith(start)


def _summary(start: Event, kinds: Mapping[str, Event], tasks: Counter[str]) -> Summary:
    answered, ended = kinds.get("request.answered"), kinds.get("invocation.ended")
    status, duration = None, None
    if answered is not None:
        status, duration = answered.data["status"], answered.data["durationMs"]
    elif ended is not None:
        duration = ended.data.get("durationMs")
    request = start.kind == "request.received"
    title = f"{start.data['method']} {start.data['path']}" if request else f"{start.function}"
    function = answered.function if answered is not None else start.function
    failed = (
        (status or 0) >= 500
        or "request.failed" in kinds
        or any(is_failure(event) for event in kinds.values())
        or tasks["failed"] > 0
        or tasks["inlineFailed"] > 0
    )
    kind = "request" if request else "tick" if "tick" in kinds else "invocation"
    counts = {name: tasks[name] for name in
              ("published", "succeeded", "failed", "retried", "inline")}  # fmt: skip
    open_ = tasks["succeeded"] + tasks["failed"] < tasks["published"] - tasks["retried"]
    counts["running"] = int(open_)
    over = answered is not None or ended is not None
    state = "failed" if failed else "waiting" if open_ else "ok" if over else "running"
    return Summary(
        start.request_id or "", start.seq, start.at, kind, title, function, status, duration,
        state, counts,
    )  # fmt: skip


def _matches(summary: Summary, kinds: Mapping[str, Event], wanted: Filter) -> bool:
    return (
        (not wanted.function or summary.function == wanted.function)
        and (not wanted.state or summary.state == wanted.state)
        and (not wanted.kind or summary.kind == wanted.kind)
        and (not wanted.id or summary.id.startswith(wanted.id))
        and (not wanted.text or wanted.text.lower() in summary.title.lower()
             or any(contains_text(event, wanted.text.lower()) for event in kinds.values()))
    )  # fmt: skip
