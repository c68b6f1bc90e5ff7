"""What the API has created, changed and deleted, beside what the template declares.

A resource is a JSON object, found by its kind (``function``, ``alias``, ``mapping`` …) and a key.
``declare`` states the resources of the template. A change to one of those holds until the template
changes the same resource; a resource that only the API has made stays until the API deletes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.journal.files import JsonLog, StateLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

FILE = "changes.jsonl"
#: A resource as JSON; never changed in place.
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Change:
    """``base`` is the fingerprint of what the template declared; ``document`` is ``None`` for a
    resource that was deleted.
    """

    base: str
    document: Document | None


class ChangesLog:
    """The changes in a directory."""

    def __init__(self, directory: Path) -> None:
        """Raises ``PersistenceError`` if another emulator uses the directory."""
        self._log = JsonLog(directory, FILE)
        self.changes: dict[tuple[str, str], _Change] = {}
        self._state_log = StateLog(self._log, lambda: map(_line, self.changes.items()))
        for line in self._log.lines():
            key = line["kind"], line["key"]
            if line["do"] == "change":
                self.changes[key] = _Change(line["base"], line["document"])
            else:
                self.changes.pop(key, None)
        self._state_log.rewrite()

    def write(self, changes: Mapping[tuple[str, str], _Change]) -> None:
        """Keep the changes; raises ``PersistenceError`` if they cannot be kept."""
        before, self.changes = self.changes, dict(changes)
        try:
            for key in before.keys() - changes.keys():
                self._state_log.append({"do": "forget", "kind": key[0], "key": key[1]})
            for key, change in changes.items():
                if before.get(key) != change:
                    self._state_log.append(_line((key, change)))
        except BaseException:
            self.changes = before
            raise

    def close(self) -> None:
        self._log.close()


def _line(item: tuple[tuple[str, str], _Change]) -> dict[str, Any]:
    (kind, key), change = item
    return {
        "do": "change", "kind": kind, "key": key, "base": change.base, "document": change.document,
    }  # fmt: skip


class Changes:
    """The resources of all kinds: those of the template, with the changes of the API."""

    def __init__(self, log: ChangesLog | None = None) -> None:
        self._log = log
        self._declared: dict[tuple[str, str], Document] = {}
        self._changes: dict[tuple[str, str], _Change] = dict(log.changes) if log else {}
        #: Held while resources change, by the API or by a reload of the template.
        self.lock = asyncio.Lock()
        #: Makes what runs the same as the resources; the emulator sets it.
        self.apply: Callable[[], Awaitable[None]] = _apply_nothing

    def declare(self, declared: Mapping[str, Mapping[str, Document]]) -> list[str]:
        """Set the template's resources by kind and key.

        Returns the names of those that the API had changed and the template now replaces.
        """
        self._declared = {
            (kind, key): document
            for kind, found in declared.items()
            for key, document in found.items()
        }
        replaced = [key for key, each in self._changes.items() if each.base != self._base(key)]
        # What was deleted with its owner comes back with it.
        back = {_owner(key) for key in replaced if self._changes[key].document is None}
        for key, each in tuple(self._changes.items()):
            if key in replaced or (each.document is None and _owner(key) in back):
                del self._changes[key]
        self._write()
        return [f"{kind} {key}" for kind, key in replaced]

    @property
    def state(self) -> object:
        """Everything; set it to what it was to undo a ``declare``."""
        return self._declared, dict(self._changes)

    @state.setter
    def state(self, former: Any) -> None:
        self._declared, self._changes = former
        self._write()

    def get(self, kind: str, key: str) -> Document | None:
        change = self._changes.get((kind, key))
        return change.document if change is not None else self._declared.get((kind, key))

    def all(self, kind: str) -> dict[str, Document]:
        """The resources of a kind by key, the template's first."""
        return dict(self._all(kind))

    def _all(self, kind: str) -> Iterator[tuple[str, Document]]:
        for of, key in dict.fromkeys((*self._declared, *self._changes)):
            if of == kind and (found := self.get(kind, key)) is not None:
                yield key, found

    def is_declared(self, kind: str, key: str) -> bool:
        """True if the resource is as the template declares it."""
        return (kind, key) in self._declared and (kind, key) not in self._changes

    def put(self, kind: str, key: str, document: Document) -> None:
        """Create or replace a resource. Call it, and ``delete``, within ``changing`` only."""
        self._changes[kind, key] = _Change(self._base((kind, key)), document)

    def delete(self, kind: str, key: str) -> None:
        if (kind, key) in self._declared:
            self._changes[kind, key] = _Change(self._base((kind, key)), None)
        else:
            self._changes.pop((kind, key), None)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Apply and keep what is changed within; if something fails, nothing is changed."""
        async with self.lock:
            before = dict(self._changes)
            try:
                yield
            except BaseException:
                self._changes = before
                raise
            if self._changes == before:
                return
            try:
                await self.apply()
                self._write()
            except BaseException:
                self._changes = before
                await self.apply()
                raise

    def _write(self) -> None:
        if self._log is not None:
            self._log.write(self._changes)

    def _base(self, key: tuple[str, str]) -> str:
        declared = self._declared.get(key)
        return "" if declared is None else _fingerprint(declared)


def _owner(key: tuple[str, str]) -> str:
    """The name before the qualifier."""
    return key[1].partition(":")[0]


async def _apply_nothing() -> None:
    """Nothing runs yet."""


#: The ports of this machine differ from start to start.
_PORT = re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):\d+")


def _fingerprint(document: Document) -> str:
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(_PORT.sub(r"\1", text).encode()).hexdigest()[:32]
