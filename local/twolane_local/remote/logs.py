"""A stack's log lines as journal events: those about an id, those since a time, or new ones.

A line is the runtime's own event, a line of Lambda's (text such as ``REPORT …``, or JSON), or a
plain log line.
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.journal import Journal, record_line
from twolane_local.journal.trace import error_of
from twolane_local.remote.account import aws_errors

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from twolane_local.journal import Event
    from twolane_local.remote.account import Account


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
#: Metrics of a ``platform.report`` record, by our names.
_METRICS = {
    "durationMs": "durationMs",
    "billedMs": "billedDurationMs",
    "memoryMb": "memorySizeMB",
    "maxMemoryMb": "maxMemoryUsedMB",
    "initMs": "initDurationMs",
    "restoreMs": "restoreDurationMs",
}
#: Lambda's lines that are not events.
_SILENT = re.compile(
    r"(END RequestId|INIT_START|INIT_REPORT|RESTORE_START|RESTORE_REPORT|EXTENSION\s|XRAY TraceId)"
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log event; ``at`` is in seconds since the epoch, ``id`` is CloudWatch's."""

    at: float
    function: str
    text: str
    id: str = ""


class _LineClock:
    """A ``Clock`` that shows the time of the current line; nothing waits on it."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        raise NotImplementedError


def events(lines: Iterable[LogLine]) -> list[Event]:
    """Return the events of the lines, in the order of time."""
    clock = _LineClock()
    journal = Journal(clock)
    for line in sorted(lines, key=lambda each: each.at):
        clock.now = line.at
        _record(journal, line)
    return list(journal)


def _record(journal: Journal, line: LogLine) -> None:
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
        record_line(journal, line.function, None, text.encode())


def _platform(text: str) -> tuple[str, dict[str, Any]] | None:
    """Return type and record of a line that Lambda wrote as JSON."""
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


def _started(journal: Journal, line: LogLine, request_id: Any) -> None:
    journal.record("invocation.started", function=line.function, request_id=str(request_id))


def _ended(journal: Journal, line: LogLine, record: dict[str, Any]) -> None:
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


#: How often ``follow`` reads the logs, in seconds. CloudWatch shows a line some seconds late, and
#: not in order, so each read includes the last seconds again.
LOOK_S = 3.0
_OVERLAP_S = 30.0
#: A pattern may have 1,024 characters; an id has 36 and its quotes.
_IDS_AT_ONCE = 20
#: ``about`` goes so many steps: from a request to its tasks, to the tasks that those publish ….
_STEPS = 4
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The pattern for the runtime's lines about tasks.
ABOUT_TASKS = '{ $.event = "task.*" }'


def id_pattern(identifier: str) -> str:
    """Return the pattern for lines with a whole id. What it matches for part of an id is not
    documented, so the pattern is then empty.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    return f'"{identifier}"' if _WHOLE_ID.fullmatch(identifier) else ""


class StackLogs:
    """``groups`` are the log groups by function; ``now`` in seconds since the epoch."""

    def __init__(
        self,
        account: Account,
        groups: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._logs = account.client("logs")
        self._groups = groups
        self._now, self._wait = now, wait

    def since(self, start: float, *, function: str | None = None, pattern: str = "") -> list[Event]:
        """Return the events from ``start`` on; AWS filters the lines by ``pattern``."""
        return events(self._lines(start, pattern=pattern, function=function))

    def about(self, identifier: str, *, start: float) -> list[Event]:
        """Return the events of an id: its lines, and those of related ids. A worker's line has the
        id of its task's request, so a few steps lead from one id to all.
        """
        found: dict[str, LogLine] = {}
        searched: set[str] = set()
        ids = {identifier}
        for _ in range(_STEPS):
            fresh = ids - searched
            if not fresh:
                break
            searched |= fresh
            found |= {line.id: line for line in self._lines_with(fresh, start)}
            ids |= _related_ids(events(found.values()))
        # Of the worker's invocations only start and end: their other lines are of other requests.
        invocations = {event.request_id for event in events(found.values()) if event.request_id}
        for line in self._lines_with(invocations - searched, start):
            if any(event.kind.startswith("invocation.") for event in events([line])):
                found[line.id] = line
        return events(found.values())

    def _lines_with(self, ids: set[str], start: float) -> Iterator[LogLine]:
        """Yield the lines that contain one of the ids."""
        ordered = sorted(ids)
        for begin in range(0, len(ordered), _IDS_AT_ONCE):
            some = ordered[begin : begin + _IDS_AT_ONCE]
            for line in self._lines(start, pattern=" ".join(f'?"{each}"' for each in some)):
                if any(each in line.text for each in some):
                    yield line

    def follow(self, *, function: str | None = None) -> Iterator[Event]:
        """Yield the events of new lines, without end."""
        return self._follow(self._now(), function)

    def _follow(self, begun: float, function: str | None) -> Iterator[Event]:
        seen: dict[str, float] = {}
        while True:
            start = max(begun, self._now() - _OVERLAP_S)
            fresh = [line for line in self._lines(start, function=function) if line.id not in seen]
            yield from events(fresh)
            seen |= {line.id: line.at for line in fresh}
            seen = {each: at for each, at in seen.items() if at >= start}
            self._wait(LOOK_S)

    def _lines(
        self, start: float, *, pattern: str = "", function: str | None = None
    ) -> Iterable[LogLine]:
        more: dict[str, Any] = {"filterPattern": pattern} if pattern else {}
        for name, group in self._groups.items():
            if function is not None and name != function:
                continue
            with aws_errors(f"logs of {name}"):
                yield from self._group(name, group, start, more)

    def _group(
        self, name: str, group: str, start: float, more: Mapping[str, Any]
    ) -> Iterator[LogLine]:
        pages = self._logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=int(start * 1000), **more
        )
        try:
            for page in pages:
                for each in page["events"]:
                    yield LogLine(
                        each["timestamp"] / 1000, name, each["message"], each.get("eventId", "")
                    )
        except self._logs.exceptions.ResourceNotFoundException:
            return  # the function never ran: Lambda creates the group with the first line


def last_error(events: Sequence[Event]) -> dict[str, Any] | None:
    """Return ``{type, message, traceback, at}`` of the last attempt that failed or was retried."""
    ended = [event for event in events if event.kind in {"task.failed", "task.retried"}]
    before = [event for event in events if ended and event.at <= ended[-1].at]
    return error_of(ended[-1], before) if ended else None


def _related_ids(events: Iterable[Event]) -> set[str]:
    """Return the ids on the events, except the request id on a worker's line: that of its batch,
    which also runs tasks of other requests.
    """
    found: set[str] = set()
    for event in events:
        origin = event.data.get("originRequestId")
        worker = origin is not None or (
            event.kind.startswith("task.") and event.kind != "task.published"
        )
        named = [event.task_id, origin, None if worker else event.request_id]
        found |= {str(each) for each in named if each}
    return found
