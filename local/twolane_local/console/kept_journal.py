"""The journal on disk, for ``--persist``: what was before a restart is there after it.

One JSON line an event, as the control API shows it, secrets left out. Two files of ``LIMIT`` bytes
at most: the current one and the one before it. Written a second late and off the event loop; a
kill loses that second, and nothing that the emulator promises to keep.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

from twolane_local.console import redact
from twolane_local.journal_file import from_dict
from twolane_local.quick_json import utf8

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from twolane_local.journal import Event, Journal

#: Of each of the two files, in bytes.
LIMIT = 32 << 20
EVERY_S = 1.0


class KeptJournal:
    """Takes up what is on disk, then keeps what comes."""

    def __init__(self, journal: Journal, folder: Path, *, limit: int = LIMIT) -> None:
        self._journal = journal
        self._path = folder / "journal.jsonl"
        self._before = folder / "journal.before.jsonl"
        self._limit = limit
        self._written = 0
        self._complained = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Put former events before those that the journal has; keep all that follow."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._written = self._journal.restore(self._read()) if self._path.exists() else 0
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            try:
                self._write(tuple(self._journal.since(self._written)))
            except OSError as error:
                self._complain(error)

    async def _run(self) -> None:
        while True:
            events = tuple(self._journal.since(self._written))
            if events:
                written, self._written = self._written, events[-1].seq
                # A write that has begun ends, whatever happens to this task.
                try:
                    await asyncio.shield(asyncio.to_thread(self._write, events))
                except OSError as error:
                    self._written = written
                    self._complain(error)
            await asyncio.sleep(EVERY_S)

    def _complain(self, error: OSError) -> None:
        """Once, or each complaint would be one more event to keep."""
        if not self._complained:
            self._complained = True
            line = f"{self._path} cannot be written ({error.strerror}); it is tried again"
            self._journal.record("log", line=line, level="ERROR")

    def _write(self, events: Iterable[Event]) -> None:
        lines = "".join(
            json.dumps(redact.event(event, content=True), ensure_ascii=False, default=str) + "\n"
            for event in events
        )
        if self._path.exists() and self._path.stat().st_size > self._limit:
            self._path.replace(self._before)
        before = self._path.stat().st_size if self._path.exists() else 0
        try:
            with self._path.open("ab") as out:
                out.write(utf8(lines))
        except OSError:
            os.truncate(self._path, before)  # or it would be there twice when it is tried again
            raise

    def _read(self) -> list[Event]:
        """Former events, oldest first; a line that a kill cut off is left out."""
        found = []
        for path in (self._before, self._path):
            if not path.exists():
                continue
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        found.append(from_dict(json.loads(line)))
                    except (ValueError, KeyError, TypeError, AttributeError):
                        continue
        return found
