"""Lines of CloudWatch Logs as events of the journal: the same that the emulator records.

The runtime's own lines are read by the code that reads them in the emulator. Lambda's lines about
an invocation become ``invocation.started`` and ``invocation.ended``, in both of its formats:
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.environments import output
from twolane_local.journal import Journal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from twolane_local.journal import Event

_START = re.compile(r"START RequestId: (?P<id>\S+)")
_REPORT = re.compile(r"REPORT RequestId: (?P<id>\S+)")
_FIGURES = {
    "durationMs": re.compile(r"\tDuration: ([\d.]+) ms"),
    "billedMs": re.compile(r"Billed Duration: (\d+) ms"),
    "memoryMb": re.compile(r"Memory Size: (\d+) MB"),
    "maxMemoryMb": re.compile(r"Max Memory Used: (\d+) MB"),
    "initMs": re.compile(r"Init Duration: ([\d.]+) ms"),
    "restoreMs": re.compile(r"\tRestore Duration: ([\d.]+) ms"),
}
#: Metrics of a platform.report record, by our names.
_METRICS = {
    "durationMs": "durationMs",
    "billedMs": "billedDurationMs",
    "memoryMb": "memorySizeMB",
    "maxMemoryMb": "maxMemoryUsedMB",
    "initMs": "initDurationMs",
    "restoreMs": "restoreDurationMs",
}
#: Lines that only frame an invocation.
_SILENT = re.compile(
    r"(END RequestId|INIT_START|INIT_REPORT|RESTORE_START|RESTORE_REPORT|EXTENSION\s|XRAY TraceId)"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One log event: ``at`` in seconds since the epoch, ``id`` CloudWatch's own."""

    at: float
    function: str
    text: str
    id: str = ""


class _LineClock:
    """Says the time of the line that is being read; nothing waits on it."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        raise NotImplementedError


def events(lines: Iterable[Line]) -> list[Event]:
    """The events of the lines, in the order of their time."""
    clock = _LineClock()
    journal = Journal(clock)
    for line in sorted(lines, key=lambda each: each.at):
        clock.now = line.at
        _record(journal, line)
    return list(journal)


def _record(journal: Journal, line: Line) -> None:
    text = line.text.rstrip()
    platform = _platform(text)
    if platform is not None:
        kind, record = platform
        if kind == "platform.start":
            _started(journal, line, record.get("requestId"))
        elif kind == "platform.report":
            _ended(journal, line, record)
        return
    if (found := _START.match(text)) is not None:
        _started(journal, line, found["id"])
    elif (found := _REPORT.match(text)) is not None:
        figures: dict[str, Any] = {name: float(hit[1]) for name, pattern in _FIGURES.items()
                   if (hit := pattern.search(text))}  # fmt: skip
        journal.record(
            "invocation.ended", function=line.function, request_id=found["id"], **figures
        )
    elif not _SILENT.match(text):
        output.record(journal, line.function, None, text.encode())


def _platform(text: str) -> tuple[str, dict[str, Any]] | None:
    """Type and record of a line that Lambda itself writes as JSON."""
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not kind.startswith("platform."):
        return None
    record = value.get("record")
    return kind, record if isinstance(record, dict) else {}


def _started(journal: Journal, line: Line, request_id: Any) -> None:
    journal.record("invocation.started", function=line.function, request_id=str(request_id))


def _ended(journal: Journal, line: Line, record: dict[str, Any]) -> None:
    metrics = record.get("metrics") or {}
    figures = {ours: metrics[theirs] for ours, theirs in _METRICS.items() if theirs in metrics}
    if record.get("status") not in {None, "success"}:
        figures["error"] = str(record.get("errorType") or record["status"])
    journal.record(
        "invocation.ended",
        function=line.function,
        request_id=str(record.get("requestId")),
        **figures,
    )
