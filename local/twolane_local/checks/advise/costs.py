"""Estimates a piece of work's cost per month in each lane, by the prices in ``prices.toml``.

Only what differs between the lanes is counted: the duration, messages, invocations and records in
the results table. The request that starts the work costs the same in both.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane.environment.logs import is_per_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.checks.advise.verdict import WorkStats
    from twolane_local.checks.lint.subject import Resource, Subject

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
