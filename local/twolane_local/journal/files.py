"""Journals on disk, and the append-only log of JSON lines that other state is kept in, too.

One event a line, in the JSON of ``GET /api/journal``. ``read`` also takes a JSON array of events,
or an object with one as ``events``. It rejects a line that is not an event: half a journal would
give advice from half the facts.

``JsonLog``: the operating system has a line before ``append`` returns, so a kill at any moment
loses nothing. Lines are not forced onto the disk: a power cut may lose the last ones.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.http.json_text import utf8
from twolane_local.journal import Event, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
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
    """An event in JSON, camelCase or not; ``KeyError``, ``TypeError`` or ``ValueError``."""
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


class RotatedLines:
    """Lines of JSON in ``NAME.jsonl``, the older ones in ``NAME.before.jsonl``."""

    def __init__(self, folder: Path, name: str, *, limit: int = LIMIT) -> None:
        """``limit`` is the size of each file in bytes; beyond, the older one is dropped."""
        self.path = folder / f"{name}.jsonl"
        self._before = folder / f"{name}.before.jsonl"
        self._limit = limit

    def append(self, lines: str) -> None:
        """Append whole lines; raises ``OSError`` and leaves the file unchanged if it cannot."""
        if self.path.exists() and self.path.stat().st_size > self._limit:
            self.path.replace(self._before)
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab", opener=_private) as out:
                out.write(utf8(lines))
        except OSError:
            os.truncate(self.path, before)  # or the next attempt would write it twice
            raise

    def read(self) -> Iterator[Any]:
        """Yield the lines, oldest first; skip one that a kill cut off."""
        for path in (self._before, self.path):
            if not path.exists():
                continue
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    with suppress(ValueError):
                        yield json.loads(line)


class KeptJournal:
    """Restores a journal from disk, then appends new events to the file."""

    def __init__(self, journal: Journal, folder: Path, *, limit: int = LIMIT) -> None:
        self._journal = journal
        self._lines = RotatedLines(folder, "journal", limit=limit)
        self._path = self._lines.path
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
        self._lines.append(lines)

    def _read(self) -> list[Event]:
        """Return the events of earlier runs, oldest first."""
        found = []
        for line in self._lines.read():
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                found.append(event_from_dict(line))
        return found


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


#: A log is due for a rewrite once it has grown to this many times its size after the last one.
GROWTH, SMALLEST = 4, 16 * 1024 * 1024


class PersistenceError(LocalError):
    """A log cannot be used or written; the message says why and what to do."""


#: What is ours in the folder of --persist.
_FILES = re.compile(r".+\.(jsonl|jsonl\.lock|new)")
_FOLDERS = frozenset({"objects", "redis"})
#: Files of functions, and their code, which have modes of their own.
_SHARED = frozenset({"file-systems", "lambda"})


def make_private(folder: Path) -> None:
    """Create the folder of --persist, or mend one of before: only its owner may read what we keep.

    A folder with other things in it keeps its own mode. Raises ``PersistenceError``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        inside = [each for each in folder.iterdir() if not each.is_symlink()]
        files = [each for each in inside if _FILES.fullmatch(each.name) and each.is_file()]
        kept = [each for each in inside if each.name in _FOLDERS and each.is_dir()]
        shared = [each for each in inside if each.name in _SHARED and each.is_dir()]
        for each in (*files, *kept, *shared):
            _make_private(each)
        for each in (inner for one in kept for inner in one.rglob("*")):
            _make_private(each)
        if len(files) + len(kept) + len(shared) == len(inside):
            _make_private(folder)
    except OSError as error:
        raise PersistenceError(
            f"{error.filename or folder} cannot be made its owner's alone ({error.strerror}), and "
            "it may hold secrets; name a directory of your own"
        ) from error


def _make_private(path: Path) -> None:
    wanted = 0o700 if path.is_dir() else 0o600
    if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != wanted:
        path.chmod(wanted)


class JsonLog:
    """One file in a directory, for one process at a time."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / name
        self._file = -1
        self._lock = os.open(directory / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._written = self._began_with = 0
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise PersistenceError(
                f"{directory} is in use by another emulator; stop it, or name another directory"
            ) from None

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines in the order of appending."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                # The process ended while it wrote this line, so nobody saw it acknowledged.
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except ValueError:
                    raise PersistenceError(
                        f"{self._path}:{number} is damaged; repair that line, or remove the file "
                        "to start with nothing"
                    ) from None

    def rewrite(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replace the log by a new one; required once before ``append``.

        Raises ``PersistenceError`` and leaves the old log in place if the disk is full.
        """
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        written = 0
        try:
            for line in lines:
                written += write_line(descriptor, line)
            fresh.replace(self._path)
        except OSError as error:
            os.close(descriptor)
            raise self._full(error) from error
        if self._file >= 0:
            os.close(self._file)
        self._file, self._written, self._began_with = descriptor, written, written

    def append(self, line: dict[str, Any]) -> bool:
        """Append; return if a ``rewrite`` is due. On ``PersistenceError`` the log is as before."""
        try:
            self._written += write_line(self._file, line)
        except OSError as error:
            raise self._full(error) from error
        return self._written > max(SMALLEST, GROWTH * self._began_with)

    def _full(self, error: OSError) -> PersistenceError:
        return PersistenceError(
            f"{self._path} cannot be written ({error.strerror}); only what is on disk is accepted. "
            "Free some space, or start without --persist"
        )

    def close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1


class StateLog:
    """Mirrors state in memory to a log; ``whole_state`` returns all of it as lines."""

    def __init__(self, log: JsonLog, whole_state: Callable[[], Iterable[dict[str, Any]]]) -> None:
        self._log, self._whole_state = log, whole_state
        self._behind = False

    def rewrite(self) -> None:
        """Raises ``PersistenceError`` and leaves the log unchanged."""
        self._log.rewrite(self._whole_state())
        self._behind = False

    def append(self, line: dict[str, Any]) -> None:
        """Write a change. Raises ``PersistenceError`` if that fails: the caller must then reject
        the change, not acknowledge it.
        """
        if self._behind:
            self.rewrite()
        elif self._log.append(line):
            # If the disk is too full for a new log, the old one is still complete.
            with suppress(PersistenceError):
                self.rewrite()

    def append_later(self, line: dict[str, Any]) -> None:
        """Write a change, now or as soon as the disk accepts it. For receives and deletions: a kill
        in between undoes them, which *at least once* allows.
        """
        try:
            self.append(line)
        except PersistenceError:
            self._behind = True


def write_line(descriptor: int, line: dict[str, Any]) -> int:
    """Append a line; return its bytes. Raises ``OSError`` and leaves the file unchanged."""
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    left = data
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        # Half a line would spoil the next one.
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - (len(data) - len(left)))
        raise
    return len(data)
