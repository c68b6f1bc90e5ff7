"""What a piece of work costs a month in either lane, by the prices of ``prices.toml``.

Counted is what differs between the lanes: the time it takes, its messages, its invocations, its
records in the results table. The request that starts it costs the same either way.
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

    from twolane_local.checks.advise.measure import Work
    from twolane_local.checks.lint.subject import Resource, Subject


_FILE = Path(__file__).with_name("prices.toml")
_MONTH_S = 730 * 3600


@cache
def prices() -> Mapping[str, Any]:
    """The data file, as it is."""
    return tomllib.loads(_FILE.read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Rates:
    """What the deployment says. Memory in MiB; ``requests`` a month."""

    requests: float
    api_memory_mb: float = 1024
    worker_memory_mb: float = 1024
    architecture: str = "x86_64"
    fifo: bool = False
    dynamodb: bool = True
    #: Whether each task has metrics of its own in CloudWatch.
    per_task_metrics: bool = True


@dataclass(frozen=True, slots=True)
class Bill:
    """US dollars a month for ``runs`` a month; ``None`` where no run was measured."""

    runs: float
    inline: float | None
    deferred: float | None
    #: For its metrics, at whatever rate it runs.
    metrics: float = 0.0


def bill(work: Work, rates: Rates) -> Bill:
    """The work's share of a month at that rate; runs per request are the journal's."""
    started = work.inline.runs + work.published
    runs = rates.requests * (started / work.requests if work.requests else 1.0)
    inline_ms, deferred_ms = work.inline.mean_ms, work.deferred.mean_ms
    # What was only measured in one lane takes as long in the other.
    inline_ms = deferred_ms if inline_ms is None else inline_ms
    deferred_ms = inline_ms if deferred_ms is None else deferred_ms
    if inline_ms is None or deferred_ms is None:
        return Bill(runs, None, None, metrics(work, rates))
    attempts = work.deferred.runs / (work.deferred.runs - work.deferred.retried or 1) or 1.0
    return Bill(
        runs,
        runs * compute(inline_ms, rates.api_memory_mb, rates.architecture),
        runs * attempts * _deferred(deferred_ms, work.mean_batch, rates),
        metrics(work, rates),
    )


def metrics(work: Work, rates: Rates) -> float:
    """What CloudWatch asks for the metrics of this task alone, if it runs each hour.

    Each lane has a count of what began, of what succeeded and of how long it took, and one more for
    each other end that was seen: see ``twolane.environment.logs``.
    """
    if not rates.per_task_metrics:
        return 0.0
    count = sum(
        3 + sum(map(bool, (lane.failed, lane.retried, lane.lost, lane.deferred)))
        for lane in (work.inline, work.deferred)
        if lane.runs
    )
    price: float = prices()["cloudwatch"]["metric_month"]
    return count * price


def compute(milliseconds: float, memory_mb: float, architecture: str) -> float:
    """Lambda's price of a duration."""
    price: float = prices()["lambda"][f"gb_second_{architecture}"]
    return milliseconds / 1000 * memory_mb / 1024 * price


def _deferred(milliseconds: float, batch: float, rates: Rates) -> float:
    """One attempt: publish, its share of a batch, its own time, its records."""
    known = prices()
    per_task = known["per_task"]
    kind = "fifo" if rates.fifo else "standard"
    # Sent one by one; received and deleted a batch at a time.
    calls = 1 + 2 / batch
    cost: float = calls * known["sqs"][f"million_requests_{kind}"] / 1e6
    cost += known["lambda"]["million_requests"] / 1e6 / batch
    cost += compute(per_task["publish_ms"], rates.api_memory_mb, rates.architecture)
    cost += compute(milliseconds, rates.worker_memory_mb, rates.architecture)
    if rates.dynamodb:
        cost += per_task["store_writes"] * known["dynamodb"]["million_writes"] / 1e6
        cost += per_task["store_reads"] * known["dynamodb"]["million_reads"] / 1e6
    return cost


def idle(rates: Rates) -> float:
    """What the deferred lane costs a month while nothing waits: Lambda polls its queue."""
    known = prices()
    polls = _MONTH_S / known["idle"]["poll_seconds"] * known["idle"]["polls_at_a_time"]
    kind = "fifo" if rates.fifo else "standard"
    cost: float = polls * known["sqs"][f"million_requests_{kind}"] / 1e6
    return cost


def of_template(subject: Subject, work: Iterable[Work], *, requests: float) -> Rates:
    """The functions are those that the journal names; Lambda's defaults stand in for others."""
    measured = list(work)
    api = _named(subject, (one.inline.function for one in measured))
    worker = _named(subject, (one.deferred.function for one in measured))
    reading = next((one for one in subject.sources() if one.function == worker), None)
    return Rates(
        requests=requests,
        api_memory_mb=_memory(api or worker),
        worker_memory_mb=_memory(worker or api),
        architecture=_architecture(worker or api),
        fifo=bool(reading and reading.queue and reading.queue.flag("FifoQueue")),
        dynamodb=any(True for _ in subject.of_kind("AWS::DynamoDB::Table")),
        per_task_metrics=_has_metrics(worker or api),
    )


def _named(subject: Subject, names: Iterable[str | None]) -> Resource | None:
    return next(
        (found for name in names if name and (found := subject.function_called(name))), None
    )


def _memory(function: Resource | None) -> float:
    return (function.number("MemorySize", 128) if function else None) or 1024


def _architecture(function: Resource | None) -> str:
    named = (function.properties.get("Architectures") if function else None) or ["x86_64"]
    return "arm64" if named[0] == "arm64" else "x86_64"


def _has_metrics(function: Resource | None) -> bool:
    found = function.properties.get("Environment") if function else None
    variables = found.get("Variables") if isinstance(found, dict) else None
    environ = {name: str(value) for name, value in (variables or {}).items()}
    return bool(environ.get("TWOLANE_METRICS_NAMESPACE", "twolane")) and is_per_task(environ)
