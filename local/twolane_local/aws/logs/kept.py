"""The events of log groups on disk, so that the next run has them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twolane_local.aws.logs.groups import Event
from twolane_local.journal.files import EVERY_S, LIMIT, RotatedLines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.aws.logs.groups import Group, Groups


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
