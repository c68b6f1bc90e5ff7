"""Counts the outcomes of tasks, and the throughput of queues. Pure functions of journal events."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.model.states import camel_case

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twolane_local.journal import Event


#: By kind: the task's state after it, and the field of ``Counts`` that it adds to.
_STATES = {
    "task.published": ("waiting", "published"),
    "task.started": ("running", "started"),
    "task.succeeded": ("ok", "succeeded"),
    "task.failed": ("failed", "failed"),
    "task.rejected": ("failed", "failed"),
    "task.retried": ("retried", "retried"),
    "task.deferred": ("waiting", None),
    "task.returned": ("waiting", None),
    "task.revoked": ("revoked", None),
    "task.expired": ("expired", None),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One task, by its id; ``at`` is when its first event was (epoch seconds); ``state``:
    ``waiting``, ``running``, ``ok``, ``failed``, ``retried`` (it will run again), ``revoked`` or
    ``expired``.
    """

    task_id: str
    name: str
    at: float
    state: str
    attempts: int = 0
    duration_ms: float | None = None
    request_id: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return camel_case(self)


@dataclass(slots=True)
class Counts:
    """The counts of one task name, and the durations of its attempts that ended."""

    name: str
    published: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    running: int = 0
    durations_ms: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the control API's shape: ``{name, counts: {…}, p50Ms, p95Ms}``."""
        counts = camel_case(self)
        name, durations = counts.pop("name"), counts.pop("durationsMs")
        p50, p95 = percentile(durations, 50), percentile(durations, 95)
        return {"name": name, "counts": counts, "p50Ms": p50, "p95Ms": p95}


_OPEN = frozenset({"waiting", "running"})
_FAILED = frozenset(kind for kind, (state, _) in _STATES.items() if state == "failed")


class RepeatedFailures:
    """Recognises repeated reports, in order: a rejected message comes back to be rejected."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def __call__(self, event: Event) -> bool:
        identity = event.task_id or event.message_id
        return event.kind in _FAILED and identity is not None and self.failed(identity)

    def failed(self, identity: str) -> bool:
        """Remember that a task or message failed; return whether that was known."""
        repeated = identity in self._failed
        self._failed.add(identity)
        return repeated


def count_tasks(events: Iterable[Event]) -> TaskCounts:
    """Count ``task.*`` events in order. ``invocation.ended`` ends the tasks of a killed
    environment, which report no end, ``message.dead_lettered`` those that do not run again.
    """
    counted = TaskCounts()
    for event in events:
        counted.add(event)
    for run in counted.runs.values():
        counted.counts[run.name].running += run.state == "running"
    return counted


class TaskCounts:
    """``counts`` by the task's name, ``runs`` by its id, in the order of their first events."""

    def __init__(self) -> None:
        self.counts: dict[str, Counts] = {}
        self.runs: dict[str, Run] = {}
        self._repeats = RepeatedFailures()
        self._invoked: dict[str | None, set[str]] = {}
        self._carried: dict[str | None, str] = {}

    def add(self, event: Event) -> None:
        if event.kind in _STATES:
            self._count(event, *_STATES[event.kind])
        elif event.kind == "invocation.ended":
            for task_id in self._invoked.pop(event.request_id, ()):
                if self.runs[task_id].state == "running":  # killed: SQS delivers it again
                    self.runs[task_id] = replace(self.runs[task_id], state="waiting")
        elif event.kind == "message.dead_lettered" and event.message_id in self._carried:
            self._dead_letter(self._carried[event.message_id])

    def _count(self, event: Event, state: str, counted: str | None) -> None:
        known = self.runs.get(event.task_id) if event.task_id else None
        name = str(event.data.get("taskName") or (known.name if known else "unknown"))
        here = self.counts.setdefault(name, Counts(name))
        if counted is not None and not self._repeats(event):
            setattr(here, counted, getattr(here, counted) + 1)
        duration = event.data.get("durationMs")
        if isinstance(duration, int | float):
            here.durations_ms.append(float(duration))
        if event.task_id:
            self.runs[event.task_id] = _next(known, event, name, state)
            if event.kind == "task.started":
                self._invoked.setdefault(event.request_id, set()).add(event.task_id)
                self._carried[event.message_id] = event.task_id

    def _dead_letter(self, task_id: str) -> None:
        """Count a dead letter as failed, unless its task's failure was counted before."""
        run = self.runs[task_id]
        if run.state in _OPEN and not self._repeats.failed(task_id):
            self.counts[run.name].failed += 1
            self.runs[task_id] = replace(run, state="failed", error="dead letter")


def _next(known: Run | None, event: Event, name: str, state: str) -> Run:
    run = known or Run(str(event.task_id), name, event.at, state)
    data = event.data
    error = data.get("error") or data.get("errorType")
    duration = data.get("durationMs")
    if event.kind == "task.published" and known is not None:
        # A retry publishes the task again before its attempt reports its end.
        state = known.state
    return replace(
        run,
        name=name,
        state=state,
        attempts=run.attempts + (event.kind == "task.started"),
        duration_ms=float(duration) if isinstance(duration, int | float) else run.duration_ms,
        request_id=run.request_id or data.get("originRequestId") or event.request_id,
        error=str(error) if error else (None if state == "ok" else run.error),
    )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the nearest-rank percentile, or ``None`` if there are no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


_COUNTED = {"message.sent": "sent", "message.received": "received", "message.deleted": "deleted"}
#: The length of a plot's step in seconds, and the number of steps.
STEP_S, STEPS = 5.0, 36
#: The most events that are read; with more of them a plot begins later.
LOOK = 20_000


def throughput(events: Iterable[Event], now: float) -> dict[str, dict[str, Any]]:
    """Return ``{stepSeconds, from, sent: [n], received: [n], deleted: [n]}`` by queue, oldest
    first, from events, latest first, which are read until the plots begin.
    """
    # Whole steps, so that the height of a bar does not change with time.
    end = (now // STEP_S + 1) * STEP_S
    begin = end - STEP_S * STEPS
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.at < begin:
            break
        name = _COUNTED.get(event.kind)
        if name is None or event.queue is None or event.at >= end:
            continue
        counts = found.setdefault(event.queue, no_throughput(begin))
        counts[name][int((event.at - begin) // STEP_S)] += 1
    return found


def no_throughput(begin: float) -> dict[str, Any]:
    """Return the plot of a queue without events."""
    series = {name: [0] * STEPS for name in _COUNTED.values()}
    return {"stepSeconds": STEP_S, "from": begin, **series}
