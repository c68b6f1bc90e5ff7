"""Waking whoever waits for a queue: long polls and event source mappings, on any event loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Waiters:
    """Events to set when something changes. ``wake`` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event of the running loop, set at the next ``wake``."""
        event = asyncio.Event()
        self._waiting[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            self._waiting.pop(event, None)

    def __len__(self) -> int:
        return len(self._waiting)

    def wake(self) -> None:
        if not self._waiting:
            return
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for event, loop in list(self._waiting.items()):
            if loop is here:
                event.set()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
