"""The rates of a template: memory, architecture, kind of queue and store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane.environment.logs import is_per_task
from twolane_local.advise.costs import Rates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.advise.measure import Work
    from twolane_local.lint.subject import Resource, Subject


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
