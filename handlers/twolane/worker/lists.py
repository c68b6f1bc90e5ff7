"""A list of names that many write at once, split so that no write of it is a big one.

A value is read, changed and put back under a condition: the longer it is, the more it costs on
DynamoDB (a write unit for each KB begun), and the more writers it has, the more often they do it
again. So a list has sixteen parts, each with its newest names.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane.state.store import StateStore

_PARTS = 16
_TRIES = 20
_MOST_BYTES = 24 * 1024


class NameList:
    """Names with when they were added. Every method raises ``StoreUnavailableError``."""

    def __init__(self, store: StateStore, key: str, *, most: int, ttl_s: float) -> None:
        self._store = store
        self._keys = [f"{key}:{number}" for number in range(_PARTS)]
        self._most = most // _PARTS
        self._ttl_s = ttl_s

    def add(self, names: Iterable[str], now: float, *, keep_s: float = float("inf")) -> None:
        """Add them as the newest; those that were added ``keep_s`` ago are forgotten."""
        parts: dict[str, list[str]] = {}
        for name in names:
            number = zlib.crc32(name.encode(errors="replace")) % _PARTS
            parts.setdefault(self._keys[number], []).append(name)
        for key, some in parts.items():
            self._add(key, some, now, now - keep_s)

    def _add(self, key: str, names: list[str], now: float, oldest: float) -> None:
        for _ in range(_TRIES):
            text = self._store.get_many([key]).get(key)
            listed = _read(text)
            kept = {name: at for name, at in listed.items() if at > oldest and name not in names}
            newest = [*kept.items(), *((name, now) for name in names)][-self._most :]
            changed = _written(newest)
            if self._store.swap(key, text, changed, ttl_s=self._ttl_s) is None:
                return

    def names(self) -> list[str]:
        """All of them, the newest last."""
        found = self._store.get_many(self._keys)
        listed = [pair for text in found.values() for pair in _read(text).items()]
        return [name for name, _ in sorted(listed, key=lambda pair: pair[1])]


def _written(newest: list[tuple[str, float]]) -> str:
    """As many of the newest as fit: a name may be as long as a task's id."""
    while len(text := json.dumps(dict(newest))) > _MOST_BYTES and newest:
        newest = newest[len(newest) // 4 + 1 :]
    return text


def _read(text: str | None) -> dict[str, float]:
    listed: dict[str, float] = json.loads(text) if text else {}
    return listed
