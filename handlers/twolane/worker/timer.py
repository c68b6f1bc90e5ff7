"""The timer that Celery's consumer hands its ETAs to. It starts nothing by itself.

Celery passes an ETA in *monotonic* time. The handler empties the timer after each message: what is
due runs, what is not is deferred to SQS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(slots=True, eq=False)
class Entry:
    """A call that waits; kombu's own entries have the same members."""

    at: float
    fun: Callable[..., object]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    canceled: bool = False

    def __call__(self) -> object:
        return self.fun(*self.args, **self.kwargs)

    def cancel(self) -> None:
        self.canceled = True


class Timer:
    """The part of kombu's timer that Celery's consumer and strategy use."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._entries: list[Entry] = []

    def call_at(
        self,
        eta: float,
        fun: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,  # noqa: ARG002 - kombu's signature
    ) -> Entry:
        entry = Entry(eta, fun, args, kwargs or {})
        self._entries.append(entry)
        return entry

    def call_after(
        self,
        secs: float,
        fun: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Entry:
        return self.call_at(self._monotonic() + secs, fun, args, kwargs, priority)

    def cancel(self, entry: Entry) -> None:
        entry.cancel()

    def clear(self) -> None:
        self._entries.clear()

    def stop(self) -> None:
        self.clear()

    def take(self) -> list[tuple[float, Entry]]:
        """All entries with the seconds until each is due (zero or less: now); none is kept."""
        entries, self._entries = self._entries, []
        now = self._monotonic()
        return [(entry.at - now, entry) for entry in entries if not entry.canceled]
