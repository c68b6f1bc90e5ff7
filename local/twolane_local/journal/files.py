"""Journals on disk: read for ``twolane lint`` and ``advise``, and kept by ``twolane up --persist``.

One event a line, in the JSON of ``GET /api/journal``. ``read`` also takes a JSON array of events,
or an object with one as ``events``. It rejects a line that is not an event: half a journal would
give advice from half the facts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.http.json_text import utf8
from twolane_local.journal import Event, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.journal import Journal


def read(path: Path) -> list[Event]:
    """Return the events of the file (``-`` is stdin). Raises ``LocalError`` that names the line."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({error.strerror}); name a journal") from error
    return [_event(path, number, raw) for number, raw in _documents(path, text) if raw is not None]


def event_from_dict(raw: Mapping[str, Any]) -> Event:
    """Return the event in a dictionary of ``Event.as_dict`` or of the control API (camelCase).

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` if it is not an event.
    """
    return Event(
        seq=int(raw.get("seq", 0)),
        at=float(raw["at"]),
        kind=str(raw["kind"]),
        function=raw.get("function"),
        queue=raw.get("queue"),
        request_id=raw.get("request_id", raw.get("requestId")),
        message_id=raw.get("message_id", raw.get("messageId")),
        task_id=raw.get("task_id", raw.get("taskId")),
        data=dict(raw.get("data") or {}),
    )


def _documents(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    try:
        whole = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            yield number, _line(path, number, line) if line.strip() else None
        return
    if isinstance(whole, dict) and isinstance(whole.get("events"), list):
        whole = whole["events"]
    yield from ((1, raw) for raw in (whole if isinstance(whole, list) else [whole]))


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise LocalError(f"{path}:{number} is not JSON ({error}); export it again") from error


def _event(path: Path, number: int, raw: Any) -> Event:
    try:
        return event_from_dict(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LocalError(
            f'{path}:{number} is not a journal event: it needs at least "kind" and "at"'
        ) from error


#: The size of each of the two files, in bytes.
LIMIT = 32 << 20
#: How often new events are written, in seconds.
EVERY_S = 1.0


class KeptJournal:
    """Restores a journal from disk, then appends new events to the file."""

    def __init__(self, journal: Journal, folder: Path, *, limit: int = LIMIT) -> None:
        self._journal = journal
        self._path = folder / "journal.jsonl"
        self._before = folder / "journal.before.jsonl"
        self._limit = limit
        self._written = 0
        self._reported = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Restore the events of earlier runs, and start to write new ones."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._written = self._journal.restore(self._read()) if self._path.exists() else 0
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write the remaining events."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            try:
                self._write(tuple(self._journal.since(self._written)))
            except OSError as error:
                self._report(error)

    async def _run(self) -> None:
        while True:
            events = tuple(self._journal.since(self._written))
            if events:
                written, self._written = self._written, events[-1].seq
                # A write runs to its end even if this task is cancelled.
                try:
                    await asyncio.shield(asyncio.to_thread(self._write, events))
                except OSError as error:
                    self._written = written
                    self._report(error)
            await asyncio.sleep(EVERY_S)

    def _report(self, error: OSError) -> None:
        """Log the first error only: each log line is one more event to write."""
        if not self._reported:
            self._reported = True
            line = f"{self._path} cannot be written ({error.strerror}); trying again"
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
            os.truncate(self._path, before)  # or the next attempt would write it twice
            raise

    def _read(self) -> list[Event]:
        """Return the events of earlier runs, oldest first; skip a line that a kill cut off."""
        found = []
        for path in (self._before, self._path):
            if not path.exists():
                continue
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        found.append(event_from_dict(json.loads(line)))
                    except (ValueError, KeyError, TypeError, AttributeError):
                        continue
        return found
