"""An append-only log of JSON lines, for what must outlive the process.

A line is with the operating system before ``append`` returns, so that it survives the process
being killed at any moment; it is not forced onto the disk, so a power cut may take the last ones.
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

#: A log wants to be written anew once it holds this many times what the last one began with.
GROWTH, SMALLEST = 4, 16 * 1024 * 1024


class PersistenceError(LocalError):
    """A log cannot be used, or takes no more; the message says why and what to do."""


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
        """What was appended, in order."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                # A line without its end was being written when the process went: it was never
                # acknowledged.
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
        """Write a new log and put it in the old one's place; needed once before ``append``.

        Raises ``PersistenceError``, with the old one in place, where there is no room for it.
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
        """Add a line; tells whether the log has grown so much that it wants to be written anew.

        Raises ``PersistenceError``, with the log as it was, where there is no room for it.
        """
        try:
            self._written += write_line(self._file, line)
        except OSError as error:
            raise self._full(error) from error
        return self._written > max(SMALLEST, GROWTH * self._began_with)

    def _full(self, error: OSError) -> PersistenceError:
        return PersistenceError(
            f"{self._path} cannot be written ({error.strerror}); what is not on the disk is not "
            "taken. Make room, or start without --persist"
        )

    def close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1


class Follower:
    """Keeps a log in step with what is in memory; ``everything`` gives that as lines."""

    def __init__(self, log: JsonLog, everything: Callable[[], Iterable[dict[str, Any]]]) -> None:
        self._log, self._everything = log, everything
        self._behind = False

    def rewrite(self) -> None:
        """Raises ``PersistenceError``, with the log as it was."""
        self._log.rewrite(self._everything())
        self._behind = False

    def must(self, line: dict[str, Any]) -> None:
        """Keep a change that memory has already. Raises ``PersistenceError`` where it is not kept:
        nobody may hear then that it was taken.
        """
        if self._behind:
            self.rewrite()
        elif self._log.append(line):
            # Without room for a new log, the old one has it all.
            with suppress(PersistenceError):
                self.rewrite()

    def may(self, line: dict[str, Any]) -> None:
        """Keep a change, now or as soon as the disk takes it: a kill in between undoes no more
        than what *at least once* allows, a receive or a deletion.
        """
        try:
            self.must(line)
        except PersistenceError:
            self._behind = True


def write_line(descriptor: int, line: dict[str, Any]) -> int:
    """Append a line; how many bytes it has. Raises ``OSError``, with the file as it was."""
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
