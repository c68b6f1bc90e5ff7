"""A journal in a file: one event a line as JSON, as ``GET /api/journal`` gives them.

Also read are a JSON array of events, and an object which holds one as ``events``. A line that is
no event is an error: half a journal would give advice from half the facts.
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

    from twolane_local.journal import Event, Journal


def read(path: Path) -> list[Event]:
    """The events of the file, ``-`` is stdin; raises ``LocalError`` which names the line."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({error.strerror}); name a journal") from error
    return [_event(path, number, raw) for number, raw in _documents(path, text) if raw is not None]


def from_dict(raw: Mapping[str, Any]) -> Event:
    """An event from ``Event.as_dict``, or from the control API, which names in camelCase.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none.
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
        return from_dict(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LocalError(
            f'{path}:{number} is no event of a journal: it needs at least "kind" and "at"'
        ) from error


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
