"""A stack's log lines, searched by id, read back from a time, or followed.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.journal import Journal, log_lines
from twolane_local.remote.account import asked

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
        log_lines.record(journal, line.function, None, text.encode())


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


#: How often a follower asks, in seconds. CloudWatch shows a line some seconds after it was written,
#: and not in order, so that it asks again for the last ones.
LOOK_S = 3.0
_OVERLAP_S = 30.0
#: A pattern may have 1,024 characters, an id has 36 and its quotes.
_IDS_AT_ONCE = 20
#: From a request to its tasks, to what those publish …: so many steps are followed.
_STEPS = 4
_WHOLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


#: The lines that the runtime writes about tasks.
ABOUT_TASKS = '{ $.event = "task.*" }'


def with_id(identifier: str) -> str:
    """A pattern for the lines with an id; of a part of one it is not documented what it matches.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
    """
    return f'"{identifier}"' if _WHOLE.fullmatch(identifier) else ""


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
        """What was logged from then on, by one function or all; ``pattern`` narrows it at AWS."""
        return events(self._lines(start, pattern=pattern, function=function))

    def about(self, identifier: str, *, start: float) -> list[Event]:
        """All that belongs to a request, task or message: its lines, and those of the ids on them.

        A worker's line names the request that its task comes from, so that a few steps lead from
        any of them to all.
        """
        found: dict[str, Line] = {}
        asked_for: set[str] = set()
        ids = {identifier}
        for _ in range(_STEPS):
            fresh = ids - asked_for
            if not fresh:
                break
            asked_for |= fresh
            found |= {line.id: line for line in self._with(fresh, start)}
            ids |= _related(events(found.values()))
        # Of the invocations that ran the tasks only the frames: the rest is of other requests.
        ran_in = {event.request_id for event in events(found.values()) if event.request_id}
        for line in self._with(ran_in - asked_for, start):
            if any(event.kind.startswith("invocation.") for event in events([line])):
                found[line.id] = line
        return events(found.values())

    def _with(self, ids: set[str], start: float) -> Iterator[Line]:
        """The lines on which one of the ids stands."""
        ordered = sorted(ids)
        for begin in range(0, len(ordered), _IDS_AT_ONCE):
            some = ordered[begin : begin + _IDS_AT_ONCE]
            for line in self._lines(start, pattern=" ".join(f'?"{each}"' for each in some)):
                if any(each in line.text for each in some):
                    yield line

    def follow(self, *, function: str | None = None) -> Iterator[Event]:
        """Each line once, as it comes to be seen."""
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
    ) -> Iterable[Line]:
        more: dict[str, Any] = {"filterPattern": pattern} if pattern else {}
        for name, group in self._groups.items():
            if function is not None and name != function:
                continue
            with asked(f"logs of {name}"):
                yield from self._group(name, group, start, more)

    def _group(
        self, name: str, group: str, start: float, more: Mapping[str, Any]
    ) -> Iterator[Line]:
        pages = self._logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=int(start * 1000), **more
        )
        try:
            for page in pages:
                for each in page["events"]:
                    yield Line(
                        each["timestamp"] / 1000, name, each["message"], each.get("eventId", "")
                    )
        except self._logs.exceptions.ResourceNotFoundException:
            return  # the function has not run yet: Lambda makes its group at the first line


def last_error(events: Sequence[Event]) -> dict[str, Any] | None:
    """``{type, message, traceback, at}`` of the last attempt that failed or was retried."""
    from twolane_local.journal.trace import error_of

    ended = [event for event in events if event.kind in {"task.failed", "task.retried"}]
    before = [event for event in events if ended and event.at <= ended[-1].at]
    return error_of(ended[-1], before) if ended else None


def _related(events: Iterable[Event]) -> set[str]:
    """The ids by which the events belong to others.

    The request id on a worker's line is its batch's, which runs other requests' tasks too.
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
