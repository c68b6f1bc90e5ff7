"""The state store of one process: for tests, and for an application that runs in one process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class MemoryStore:
    """A dictionary with times to live. It guards nothing across execution environments."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._items: dict[str, tuple[str, float]] = {}

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        with self._lock:
            found = {key: self._live(key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    def put(self, key: str, value: str, *, ttl_s: float) -> None:
        with self._lock:
            self._items[key] = (value, self._clock() + ttl_s)

    def swap(
        self, key: str, expected: str | None, value: str, *, ttl_s: float, head: int | None = None
    ) -> str | None:
        with self._lock:
            live = self._live(key)
            if live is None or expected is None:
                differs = live is not expected
            else:
                differs = live[:head] != expected[:head]
            if differs:
                return live or ""
            self._items[key] = (value, self._clock() + ttl_s)
            return None

    def add_many(
        self, values: Mapping[str, str], *, ttl_s: float, side_by_side: bool = False,  # noqa: ARG002
    ) -> set[str]:  # fmt: skip
        return {
            key for key, value in values.items() if self.swap(key, None, value, ttl_s=ttl_s) is None
        }

    def delete(self, key: str, *, expected: str | None = None) -> bool:
        with self._lock:
            live = self._live(key)
            if live is None or expected not in (None, live):
                return False
            del self._items[key]
            return True

    def delete_many(self, expected: Mapping[str, str]) -> None:
        for key, value in expected.items():
            self.delete(key, expected=value)

    def _live(self, key: str) -> str | None:
        value, expires = self._items.get(key, ("", 0.0))
        if expires > self._clock():
            return value
        self._items.pop(key, None)
        return None
