"""An append-only log of JSON lines, for state that must survive the process.

The operating system has a line before ``append`` returns, so a kill at any moment loses nothing.
Lines are not forced onto the disk: a power cut may lose the last ones.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

#: A log is due for a rewrite once it has grown to this many times its size after the last one.
GROWTH, SMALLEST = 4, 16 * 1024 * 1024


class PersistenceError(LocalError):
    """A log cannot be used or written; the message says why and what to do."""


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
        """Append a line; return whether the log is due for a ``rewrite``.

        Raises ``PersistenceError`` and leaves the log unchanged if the disk is full.
        """
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
