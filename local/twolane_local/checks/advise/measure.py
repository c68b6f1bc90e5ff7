"""Measures from the journal how long each piece of work took and how often it failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twolane_local.journal.task_counts import RepeatedFailures, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twolane_local.journal import Event


@dataclass(frozen=True, slots=True)
class LaneStats:
    """The runs of one piece of work in one lane; times in milliseconds. A run is an attempt.

    Only inline work is ``lost`` or ``deferred``: it did not fit into its invocation. Only tasks are
    ``retried``.
    """

    function: str | None = None
    durations_ms: tuple[float, ...] = ()
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    lost: int = 0
    deferred: int = 0

    @property
    def runs(self) -> int:
        return self.succeeded + self.failed + self.retried + self.lost + self.deferred

    @property
    def p50_ms(self) -> float | None:
        return percentile(self.durations_ms, 50)

    @property
    def p95_ms(self) -> float | None:
        return percentile(self.durations_ms, 95)

    @property
    def mean_ms(self) -> float | None:
        return sum(self.durations_ms) / len(self.durations_ms) if self.durations_ms else None


@dataclass(frozen=True, slots=True)
class WorkStats:
    """The runs of one callable.

    ``published`` counts tasks, each once even if it was retried; ``by_requests`` those that a
    request sent, ``delayed`` those with a delay. ``mean_batch`` is the number of messages in one
    invocation, ``requests`` the number of all HTTP requests in the journal.
    """

    name: str
    inline: LaneStats = field(default_factory=LaneStats)
    deferred: LaneStats = field(default_factory=LaneStats)
    published: int = 0
    by_requests: int = 0
    delayed: int = 0
    mean_batch: float = 1.0
    requests: int = 0


_INLINE = {
    "inline.succeeded": "succeeded", "inline.failed": "failed", "inline.lost": "lost",
    "inline.deferred": "deferred",
}  # fmt: skip
_DEFERRED = {"task.succeeded": "succeeded", "task.failed": "failed", "task.retried": "retried"}


def measure(events: Iterable[Event]) -> list[WorkStats]:
    """Return each piece of work in the journal, sorted by name."""
    seen = list(events)
    requests = {
        event.request_id for event in seen if event.kind == "request.received" and event.request_id
    }
    inline = _by_name(seen, _INLINE)
    repeats = RepeatedFailures()
    deferred = _by_name([event for event in seen if not repeats(event)], _DEFERRED)
    published = _by_name(_first_of_each_task(seen), ["task.published"])
    return [
        WorkStats(
            name=name,
            inline=_lane(inline[name], _INLINE),
            deferred=_lane(deferred[name], _DEFERRED),
            published=len(published[name]),
            by_requests=sum(event.request_id in requests for event in published[name]),
            delayed=sum(bool(event.data.get("delaySeconds")) for event in published[name]),
            mean_batch=_mean_batch(seen, deferred[name]),
            requests=len(requests),
        )
        for name in sorted({*inline, *deferred, *published})
    ]


def _first_of_each_task(events: Iterable[Event]) -> list[Event]:
    """Return each task's first publication; a retry publishes the same task again."""
    first: dict[str | None, Event] = {}
    for event in events:
        if event.kind == "task.published":
            first.setdefault(event.task_id, event)
    return list(first.values())


def _by_name(events: Sequence[Event], kinds: Iterable[str]) -> defaultdict[str, list[Event]]:
    found: defaultdict[str, list[Event]] = defaultdict(list)
    wanted = frozenset(kinds)
    for event in events:
        if event.kind in wanted and event.data.get("taskName"):
            found[str(event.data["taskName"])].append(event)
    return found


def _lane(events: Sequence[Event], kinds: dict[str, str]) -> LaneStats:
    counted = Counter(kinds[event.kind] for event in events)
    durations = (event.data.get("durationMs") for event in events)
    return LaneStats(
        function=next((event.function for event in events if event.function), None),
        durations_ms=tuple(float(value) for value in durations if isinstance(value, int | float)),
        **counted,
    )


def _mean_batch(events: Sequence[Event], runs: Sequence[Event]) -> float:
    """Return the mean size of the batches in which the work ran."""
    invocations = {event.request_id for event in runs if event.request_id}
    sizes = [
        len(event.data.get("messageIds") or ())
        for event in events
        if event.kind == "batch.invoked" and event.request_id in invocations
    ]
    return max(1.0, sum(sizes) / len(sizes)) if sizes else 1.0
