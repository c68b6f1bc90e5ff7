"""Advises which lane each piece of work belongs in, from what the journal has measured.

The inline lane is for quick work that may be lost; it never retries. The deferred lane costs a
message and an invocation, and runs its work later. So slow or failing inline work belongs on a
queue, and trivial deferred work that never needed a second attempt does not need one.

**Costs** are per month in each lane, by the prices in ``prices.toml``. Only what differs between
the lanes is counted: the duration, messages, invocations and records in the results table. The
request that starts the work costs the same in both.
"""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane.environment.logs import is_per_task
from twolane_local.journal.task_counts import RepeatedFailures, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from twolane_local.checks.lint.subject import Resource, Subject
    from twolane_local.journal import Event


_FILE = Path(__file__).with_name("prices.toml")
_MONTH_S = 730 * 3600


@cache
def prices() -> Mapping[str, Any]:
    return tomllib.loads(_FILE.read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class CostFactors:
    """The facts of a deployment that costs depend on. Memory in MiB; ``requests`` per month."""

    requests: float
    api_memory_mb: float = 1024
    worker_memory_mb: float = 1024
    architecture: str = "x86_64"
    fifo: bool = False
    dynamodb: bool = True
    #: Whether each task has metrics of its own in CloudWatch.
    per_task_metrics: bool = True


@dataclass(frozen=True, slots=True)
class MonthlyCost:
    """US dollars for ``runs`` per month; ``None`` if no run was measured."""

    runs: float
    inline: float | None
    deferred: float | None
    #: The cost of its metrics, which does not depend on the number of runs.
    metrics: float = 0.0


def monthly_cost(work: WorkStats, factors: CostFactors) -> MonthlyCost:
    """Return the work's cost; the number of runs per request is the journal's."""
    started = work.inline.runs + work.published
    runs = factors.requests * (started / work.requests if work.requests else 1.0)
    inline_ms, deferred_ms = work.inline.mean_ms, work.deferred.mean_ms
    # A lane without measurements gets the other lane's duration.
    inline_ms = deferred_ms if inline_ms is None else inline_ms
    deferred_ms = inline_ms if deferred_ms is None else deferred_ms
    if inline_ms is None or deferred_ms is None:
        return MonthlyCost(runs, None, None, _metrics_cost(work, factors))
    attempts = work.deferred.runs / (work.deferred.runs - work.deferred.retried or 1) or 1.0
    return MonthlyCost(
        runs,
        runs * compute_cost(inline_ms, factors.api_memory_mb, factors.architecture),
        runs * attempts * _attempt_cost(deferred_ms, work.mean_batch, factors),
        _metrics_cost(work, factors),
    )


def _metrics_cost(work: WorkStats, factors: CostFactors) -> float:
    """CloudWatch's price for this task's metrics in each hour: ``twolane.environment.logs``."""
    if not factors.per_task_metrics:
        return 0.0
    count = sum(
        3 + sum(map(bool, (lane.failed, lane.retried, lane.lost, lane.deferred)))
        for lane in (work.inline, work.deferred)
        if lane.runs
    )
    price: float = prices()["cloudwatch"]["metric_month"]
    return count * price


def compute_cost(milliseconds: float, memory_mb: float, architecture: str) -> float:
    """Return Lambda's price of a duration."""
    price: float = prices()["lambda"][f"gb_second_{architecture}"]
    return milliseconds / 1000 * memory_mb / 1024 * price


def _attempt_cost(milliseconds: float, batch: float, factors: CostFactors) -> float:
    """Return the cost of one deferred attempt: publish, share of a batch, duration, records."""
    known = prices()
    per_task = known["per_task"]
    kind = "fifo" if factors.fifo else "standard"
    # Sent one by one; received and deleted a batch at a time.
    calls = 1 + 2 / batch
    cost: float = calls * known["sqs"][f"million_requests_{kind}"] / 1e6
    cost += known["lambda"]["million_requests"] / 1e6 / batch
    cost += compute_cost(per_task["publish_ms"], factors.api_memory_mb, factors.architecture)
    cost += compute_cost(milliseconds, factors.worker_memory_mb, factors.architecture)
    if factors.dynamodb:
        cost += per_task["store_writes"] * known["dynamodb"]["million_writes"] / 1e6
        cost += per_task["store_reads"] * known["dynamodb"]["million_reads"] / 1e6
    return cost


def idle_cost(factors: CostFactors) -> float:
    """Return the deferred lane's cost per month without work: Lambda polls its queue."""
    known = prices()
    polls = _MONTH_S / known["idle"]["poll_seconds"] * known["idle"]["polls_at_a_time"]
    kind = "fifo" if factors.fifo else "standard"
    cost: float = polls * known["sqs"][f"million_requests_{kind}"] / 1e6
    return cost


def cost_factors(subject: Subject, work: Iterable[WorkStats], *, requests: float) -> CostFactors:
    """Read the factors from the template, for the functions that the journal names."""
    measured = list(work)
    api = _named(subject, (one.inline.function for one in measured))
    worker = _named(subject, (one.deferred.function for one in measured))
    measured_by = worker or api
    reading = next((one for one in subject.sources() if one.function == worker), None)
    named = (measured_by.properties.get("Architectures") if measured_by else None) or ["x86_64"]
    return CostFactors(
        requests=requests,
        api_memory_mb=_memory(api or worker),
        worker_memory_mb=_memory(measured_by),
        architecture="arm64" if named[0] == "arm64" else "x86_64",
        fifo=bool(reading and reading.queue and reading.queue.flag("FifoQueue")),
        dynamodb=any(True for _ in subject.of_kind("AWS::DynamoDB::Table")),
        per_task_metrics=_has_metrics(measured_by),
    )


def _named(subject: Subject, names: Iterable[str | None]) -> Resource | None:
    return next((found for name in names if name and (found := subject.find_function(name))), None)


def _memory(function: Resource | None) -> float:
    return (function.number("MemorySize", 128) if function else None) or 1024


def _has_metrics(function: Resource | None) -> bool:
    found = function.properties.get("Environment") if function else None
    variables = found.get("Variables") if isinstance(found, dict) else None
    environ = {name: str(value) for name, value in (variables or {}).items()}
    return bool(environ.get("TWOLANE_METRICS_NAMESPACE", "twolane")) and is_per_task(environ)


class Verdict(StrEnum):
    """The recommended lane of a piece of work."""

    DEFER = "defer"
    INLINE = "inline"
    STAY = "stay"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of the advice. Times in milliseconds, of the slowest run in twenty."""

    slow_inline_ms: float = 2_000.0
    trivial_ms: float = 100.0
    #: The share of failed inline runs, which are not retried.
    failing: float = 0.01
    #: With fewer runs than this, success proves nothing.
    enough_runs: int = 20


@dataclass(frozen=True, slots=True)
class Judgement:
    """``lane`` is the work's current lane; ``reasons`` are sentences with numbers."""

    verdict: Verdict
    lane: str  # inline | deferred | both | none
    reasons: tuple[str, ...]


def judge(work: WorkStats, limits: Limits | None = None) -> Judgement:
    """Return the verdict on one piece of work."""
    limits = limits or Limits()
    lanes = [name for name, lane in (("inline", work.inline), ("deferred", work.deferred))
             if lane.runs]  # fmt: skip
    lane = "both" if len(lanes) == 2 else (lanes or ["none"])[0]
    if work.inline.runs and (reasons := _against_inline(work.inline, limits)):
        return Judgement(Verdict.DEFER, lane, tuple(reasons))
    runs = max(work.inline.runs, work.deferred.runs)
    if runs < limits.enough_runs:
        few = f"{runs} runs are too few to judge; {limits.enough_runs} are enough"
        return Judgement(Verdict.UNKNOWN, lane, (few,))
    if work.inline.runs:
        quick = f"{_quick(work.inline)}, and none failed or was lost"
        return Judgement(Verdict.STAY, lane, (quick,))
    against = _for_the_queue(work, limits)
    if against:
        return Judgement(Verdict.STAY, lane, tuple(against))
    trivial = f"{_quick(work.deferred)}, and none of them failed or was retried"
    would_do = (
        "a request sends each of them, at once: a background task would do, if one may be lost "
        "when its environment dies"
    )
    return Judgement(Verdict.INLINE, lane, (trivial, would_do))


def _against_inline(lane: LaneStats, limits: Limits) -> list[str]:
    reasons = []
    if lane.p95_ms is not None and lane.p95_ms > limits.slow_inline_ms:
        reasons.append(
            f"slow: one inline run in twenty takes {_time(lane.p95_ms)} or more, and the inline "
            f"lane is for {_time(limits.slow_inline_ms)}"
        )
    if lane.failed and lane.failed >= limits.failing * lane.runs:
        reasons.append(f"fails: {lane.failed} of {lane.runs} inline runs, and none is retried")
    if lane.lost or lane.deferred:
        reasons.append(
            f"does not fit: of {lane.runs} inline runs {lane.lost} were lost and {lane.deferred} "
            "put on a queue shortly before the timeout"
        )
    return reasons


def _for_the_queue(work: WorkStats, limits: Limits) -> list[str]:
    lane = work.deferred
    reasons = []
    if lane.p95_ms is not None and lane.p95_ms > limits.trivial_ms:
        reasons.append(f"not trivial: one run in twenty takes {_time(lane.p95_ms)} or more")
    if lane.failed or lane.retried:
        reasons.append(
            f"needs its retries: {lane.retried} retries and {lane.failed} failures in "
            f"{lane.runs} runs"
        )
    if work.delayed:
        reasons.append(f"waits: {work.delayed} of {work.published} messages have a delay")
    if work.by_requests < work.published or not work.published:
        others = work.published - work.by_requests
        reasons.append(
            f"no request sends it: {others} of {work.published} messages come from a schedule, "
            "another task or elsewhere"
        )
    return reasons


def _quick(lane: LaneStats) -> str:
    p95 = _time(lane.p95_ms) if lane.p95_ms is not None else "an unknown time"
    return f"quick: 19 of 20 runs take at most {p95} ({lane.runs} runs)"


def _time(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"


_WORDS = {"defer": "DEFER", "inline": "INLINE", "stay": "stay", "unknown": "too few runs"}


def as_text(judged: Sequence[tuple[WorkStats, Judgement]], factors: CostFactors) -> Iterator[str]:
    """Yield a paragraph for each piece of work: its name, the verdict, the reasons, the cost."""
    for work, judgement in judged:
        yield f"{work.name}  ({judgement.lane})  →  {_WORDS[judgement.verdict]}"
        for name, lane in (("inline", work.inline), ("deferred", work.deferred)):
            if lane.runs:
                yield f"    {name:<9} {_numbers(lane)}"
        yield from (f"    · {reason}" for reason in judgement.reasons)
        cost = monthly_cost(work, factors)
        if cost.inline is not None and cost.deferred is not None:
            yield (
                f"    a month, {cost.runs:,.0f} runs: ${cost.inline:,.2f} inline, "
                f"${cost.deferred:,.2f} deferred"
                + (f"; its metrics ${cost.metrics:,.2f}" if cost.metrics else "")
            )
    if not judged:
        yield "the journal names no work of either lane; send some requests first"
        return
    known = prices()
    checked = "" if known["verified"] else ", to be checked"
    yield (
        f"Prices: {known['region']}, {known['date']}{checked}; without free tier. The deferred "
        f"lane costs ${idle_cost(factors):,.2f} a month at rest (polling)."
    )


def _numbers(lane: LaneStats) -> str:
    parts = [f"{lane.runs} runs"]
    if lane.p50_ms is not None and lane.p95_ms is not None:
        parts.append(f"p50 {lane.p50_ms:.0f} ms, p95 {lane.p95_ms:.0f} ms")
    parts += [
        f"{count} {name}"
        for name, count in (
            ("failed", lane.failed), ("retried", lane.retried), ("lost", lane.lost),
            ("deferred", lane.deferred),
        )
        if count
    ]  # fmt: skip
    return ", ".join(parts)


def as_json(judged: Sequence[tuple[WorkStats, Judgement]], factors: CostFactors) -> dict[str, Any]:
    """``{"prices", "idle", "work": [{"name", "lane", "advice", "reasons", "inline", …}]}``."""
    known = prices()
    return {
        "prices": {
            "region": known["region"],
            "date": str(known["date"]),
            "verified": known["verified"],
            "sources": [part["source"] for part in known.values() if isinstance(part, dict)
                        and "source" in part],
        },
        "requestsPerMonth": factors.requests,
        "idle": round(idle_cost(factors), 4),
        "work": [_work(work, judgement, factors) for work, judgement in judged],
    }  # fmt: skip


def _work(work: WorkStats, judgement: Judgement, factors: CostFactors) -> dict[str, Any]:
    cost = monthly_cost(work, factors)
    return {
        "name": work.name,
        "lane": judgement.lane,
        "advice": str(judgement.verdict),
        "reasons": list(judgement.reasons),
        "inline": _lane(work.inline),
        "deferred": _lane(work.deferred),
        "monthly": asdict(cost),
    }


def _lane(lane: LaneStats) -> dict[str, Any] | None:
    if not lane.runs:
        return None
    return {
        "function": lane.function,
        "runs": lane.runs,
        "p50Ms": lane.p50_ms,
        "p95Ms": lane.p95_ms,
        "succeeded": lane.succeeded,
        "failed": lane.failed,
        "retried": lane.retried,
        "lost": lane.lost,
        "deferred": lane.deferred,
    }


@dataclass(frozen=True, slots=True)
class LaneStats:
    """The runs of one piece of work in one lane; times in milliseconds. A run is an attempt. Only
    inline work is ``lost`` or ``deferred``, as it did not fit into its invocation; only tasks are
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
    """The runs of one callable. ``published`` counts tasks, retried or not, once; ``by_requests``
    those that a request sent, ``delayed`` those with a delay; ``mean_batch`` is the number of
    messages in one invocation, ``requests`` that of all HTTP requests in the journal.
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
            inline=_lane_of_measure(inline[name], _INLINE),
            deferred=_lane_of_measure(deferred[name], _DEFERRED),
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


def _lane_of_measure(events: Sequence[Event], kinds: dict[str, str]) -> LaneStats:
    counted = Counter(kinds[event.kind] for event in events)
    durations = (event.data.get("durationMs") for event in events)
    return LaneStats(
        function=next((event.function for event in events if event.function), None),
        durations_ms=tuple(float(value) for value in durations if isinstance(value, int | float)),
        **counted,
    )


def _mean_batch(events: Sequence[Event], runs: Sequence[Event]) -> float:
    invocations = {event.request_id for event in runs if event.request_id}
    sizes = [
        len(event.data.get("messageIds") or ())
        for event in events
        if event.kind == "batch.invoked" and event.request_id in invocations
    ]
    return max(1.0, sum(sizes) / len(sizes)) if sizes else 1.0
