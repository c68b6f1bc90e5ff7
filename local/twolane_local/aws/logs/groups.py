"""Log groups in memory: streams, and the last events of each group.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CloudWatchLogsConcepts.html

``KeptGroups`` keeps the events on disk, so that the next run has them.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane_local.journal.files import EVERY_S, LIMIT, RotatedLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Message = bytes | Callable[[], bytes]
    from collections.abc import Callable
    from pathlib import Path


#: The events and bytes that a group keeps, and its streams; AWS keeps all of them.
EVENTS, BYTES, STREAMS = 20_000, 16 << 20, 1_000
#: The size of an event beyond its message, as AWS counts it:
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
OVERHEAD = 26
#: The size of a message that is not made yet.
_UNMADE = 200


class Event(NamedTuple):
    """One event. ``at`` and ``ingested`` are in milliseconds since the epoch."""

    at: int
    number: int
    stream: str
    raw: Message
    shown: Callable[[bytes], bytes] | None
    ingested: int

    @property
    def id(self) -> str:
        """Unique, and in the order of the events of a group."""
        return f"{self.at:020d}{self.number:036d}"

    @property
    def message(self) -> str:
        raw = self.raw if isinstance(self.raw, bytes) else self.raw()
        return (self.shown(raw) if self.shown else raw).decode("utf-8", "replace")


@dataclass(slots=True)
class Stream:
    """A stream's own figures, in milliseconds since the epoch."""

    name: str
    created: int
    first: int | None = None
    last: int | None = None
    ingested: int | None = None


class Group:
    """One log group."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        """``now`` returns seconds since the epoch."""
        self.name = name
        self._now = now
        self.created = int(now() * 1000)
        self.streams: dict[str, Stream] = {}
        self._events: deque[Event] = deque()
        self.bytes = 0
        self._number = 0

    def stream(self, name: str) -> Stream:
        """The stream of this name, a new one if there is none."""
        found = self.streams.get(name)
        if found is None:
            found = self.streams[name] = Stream(name, int(self._now() * 1000))
            if len(self.streams) > STREAMS:
                del self.streams[next(iter(self.streams))]
        return found

    def put(
        self,
        stream: Stream,
        raw: Message,
        at: int | None = None,
        shown: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Append one event, by default of now; ``shown`` makes the text that readers get."""
        ingested = int(self._now() * 1000)
        if at is None:
            at = ingested
        self._number += 1
        self._keep(Event(at, self._number, stream.name, raw, shown, ingested))
        if stream.first is None or at < stream.first:
            stream.first = at
        if stream.last is None or at > stream.last:
            stream.last = at
        stream.ingested = ingested

    def restore(self, event: Event, created: int) -> None:
        """Append an event of an earlier run."""
        stream = self.stream(event.stream)
        stream.created = created
        self.created = min(self.created, created)
        self._number = max(self._number, event.number)
        self._keep(event)
        stream.first = event.at if stream.first is None else min(stream.first, event.at)
        stream.last = event.at if stream.last is None else max(stream.last, event.at)
        stream.ingested = event.ingested

    def _keep(self, event: Event) -> None:
        self._events.append(event)
        raw = event.raw
        self.bytes += OVERHEAD + (len(raw) if isinstance(raw, bytes) else _UNMADE)
        while len(self._events) > EVENTS or self.bytes > BYTES:
            self.bytes -= _size(self._events.popleft().raw)

    def forget(self, stream: str) -> None:
        """Delete a stream and its events."""
        self.streams.pop(stream, None)
        kept = [event for event in self._events if event.stream != stream]
        self._events = deque(kept)
        self.bytes = sum(_size(event.raw) for event in kept)

    def since(self, number: int) -> list[Event]:
        """The events with a higher number, in the order of their arrival; old ones cost no time."""
        found: list[Event] = []
        for event in reversed(self._events):
            if event.number <= number:
                break
            found.append(event)
        found.reverse()
        return found

    @property
    def last_number(self) -> int:
        return self._number

    def select(self, streams: Iterable[str] | None, start: int, end: int) -> list[Event]:
        """The events of these streams from ``start`` to ``end``, both inclusive, by time."""
        wanted = None if streams is None else frozenset(streams)
        found = [
            event
            for event in self._events
            if start <= event.at <= end and (wanted is None or event.stream in wanted)
        ]
        found.sort()
        return found


def _size(raw: Message) -> int:
    return OVERHEAD + (len(raw) if isinstance(raw, bytes) else _UNMADE)


class EnvironmentLog:
    """The stream of one execution environment, made with its first line, as its group is."""

    def __init__(self, groups: Groups, group: str, name: str) -> None:
        self._groups = groups
        self._group = group
        self._name = name
        self._found: tuple[Group, Stream] | None = None

    def put(self, line: Message, shown: Callable[[bytes], bytes]) -> None:
        """Append one line; ``shown`` makes the text that readers get."""
        if self._found is None or not self._groups.has(*self._found):
            group = self._groups.group(self._group)
            self._found = group, group.stream(self._name)
        group, stream = self._found
        group.put(stream, line, shown=shown)


class Groups:
    """All groups with events of functions, by name."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` returns seconds since the epoch."""
        self.now = now
        self._groups: dict[str, Group] = {}
        #: Names of deleted groups, and of streams deleted from one.
        self.deleted: list[tuple[str, str]] = []

    def group(self, name: str) -> Group:
        """The group of this name, a new one if there is none."""
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(name, self.now)
        return found

    def has(self, group: Group, stream: Stream) -> bool:
        """False if one of them was deleted."""
        known = self._groups.get(group.name)
        return known is group and group.streams.get(stream.name) is stream

    def get(self, name: str) -> Group | None:
        return self._groups.get(name)

    def delete(self, name: str, stream: str = "") -> None:
        """Delete a group, or a stream of it."""
        self.deleted.append((name, stream))
        if stream:
            self._groups[name].forget(stream)
        else:
            self._groups.pop(name, None)

    def __iter__(self) -> Iterator[Group]:
        return iter(tuple(self._groups.values()))

    def environment(self, group: str, stream: str) -> EnvironmentLog:
        """The log of one execution environment."""
        return EnvironmentLog(self, group, stream)


def stream_name(now: float, version: str, function: str = "") -> str:
    """``2026/01/31/[$LATEST]<32 hex digits>``, in a group of one's own with the function's name.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
    """
    day, identity = time.strftime("%Y/%m/%d", time.gmtime(now)), os.urandom(16).hex()
    if function:
        return f"{day}/{function}[{version}][{identity}]"
    return f"{day}/[{version}]{identity}"


class KeptGroups:
    """Restores groups from disk, then appends their new events to the file."""

    def __init__(
        self, groups: Groups, folder: Path, report: Callable[[str], None], *, limit: int = LIMIT
    ) -> None:
        """``report`` gets a line if the file cannot be written."""
        self._groups, self._report = groups, report
        self._folder = folder
        self._lines = RotatedLines(folder, "logs", limit=limit)
        self._written: dict[Group, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._reported = False

    def start(self) -> None:
        """Restore the events of earlier runs, and start to write new ones."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for line in self._lines.read():
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                self._restore(line)
        self._groups.deleted.clear()
        self._written = {group: group.last_number for group in self._groups}
        self._task = asyncio.create_task(self._run())

    def _restore(self, line: dict[str, Any]) -> None:
        if "deleted" in line:
            group = self._groups.get(line["deleted"])
            if group is not None and line["stream"]:
                group.forget(line["stream"])
            else:
                self._groups.delete(line["deleted"])
            return
        event = Event(
            int(line["at"]), int(line["number"]), str(line["stream"]),
            str(line["message"]).encode(), None, int(line["ingested"]),
        )  # fmt: skip
        self._groups.group(str(line["group"])).restore(event, int(line["created"]))

    async def close(self) -> None:
        """Write the remaining events."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._append(self._new_lines())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            lines = self._new_lines()
            if lines:  # a write runs to its end even if this task is cancelled
                await asyncio.shield(asyncio.to_thread(self._append, lines))

    def _new_lines(self) -> list[dict[str, Any]]:
        deleted, self._groups.deleted = self._groups.deleted, []
        lines: list[dict[str, Any]] = [
            {"deleted": group, "stream": stream} for group, stream in deleted
        ]
        written: dict[Group, int] = {}
        for group in self._groups:
            lines += [
                {
                    "group": group.name,
                    "stream": event.stream,
                    "created": group.streams[event.stream].created,
                    "at": event.at,
                    "ingested": event.ingested,
                    "number": event.number,
                    "message": event.message,
                }
                for event in group.since(self._written.get(group, 0))
                if event.stream in group.streams
            ]
            written[group] = group.last_number
        self._written = written
        return lines

    def _append(self, lines: list[dict[str, Any]]) -> None:
        try:
            self._lines.append("".join(json.dumps(line) + "\n" for line in lines))
        except OSError as error:
            if not self._reported:
                self._reported = True
                self._report(f"{self._lines.path} cannot be written ({error.strerror})")
