"""What a trace is made of: spans with their place in the tree, and nothing that moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.journal import Event


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on the time line."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """One step from ``start`` to ``end`` (seconds since the epoch), below ``parent``.

    ``end`` is ``None`` for what is not over yet. ``kind`` and ``state`` are as docs/console.md
    names them. ``detail`` holds JSON values and the journal's own contents, nothing left out:
    whoever shows it redacts it.
    """

    id: str
    parent: str | None
    kind: str
    title: str
    lane: str
    start: float
    end: float | None
    state: str = "ok"
    marks: tuple[Mark, ...] = ()
    request_id: str | None = None
    task_id: str | None = None
    message_id: str | None = None
    function: str | None = None
    queue: str | None = None
    attempt: int | None = None
    receive_count: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """All spans of one story, parents before their children."""

    id: str
    at: float
    now: float
    spans: tuple[Span, ...]
    logs: tuple[Event, ...] = ()
    #: Spans beyond the limit, which are not there.
    left_out: int = 0

    @property
    def end(self) -> float:
        """When the last of it ended; now, while something is under way."""
        ends = [self.now if span.end is None else span.end for span in self.spans]
        return max(ends, default=self.now)

    @property
    def running(self) -> bool:
        """Whether something of it is not over."""
        return any(span.end is None for span in self.spans)
