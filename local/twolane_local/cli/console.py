"""The journal on a terminal: one line a step, which scans at a glance.

``→`` something begins, ``←`` it ends well, ``↻`` it comes again, ``!`` it needs a look.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.journal import Event

#: Kinds that only repeat what another line says: `request.*` say what the invocation was for.
_SILENT = frozenset(
    {"environment.frozen", "message.received", "message.deleted", "tick", "invocation.responded"}
)
_BEGIN = frozenset(
    {"request.received", "invocation.started", "message.sent", "task.published", "task.started",
     "inline.started", "schedule.fired"}
)  # fmt: skip
_AGAIN = frozenset(
    {"task.retried", "task.deferred", "task.duplicate", "task.returned", "message.returned",
     "inline.deferred"}
)  # fmt: skip
_LOOK = frozenset(
    {"invocation.throttled", "message.dead_lettered", "message.expired", "task.failed",
     "task.rejected", "inline.failed", "inline.lost"}
)  # fmt: skip


class Console:
    """Writes events to ``out``; give its ``tell`` to ``Journal.subscribe``."""

    def __init__(self, out: TextIO, *, colour: bool | None = None) -> None:
        self._out = out
        self._colour = out.isatty() if colour is None else colour

    def tell(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        if event.kind in _SILENT:
            return
        mark = mark_of(event)
        stamp = time.strftime("%H:%M:%S", time.localtime(event.at))
        who = event.function or event.queue or "gateway"
        line = f"{stamp}.{int(event.at % 1 * 1000):03d} {mark} {who:<16} {text_of(event)}"
        if self._colour and mark == "!":
            line = f"\x1b[31m{line}\x1b[0m"
        self._out.write(line + "\n")


def mark_of(event: Event) -> str:
    """One of ``→ ← ↻ !``, or a point for a plain log line."""
    status = event.data.get("status")
    if event.kind in _LOOK or event.data.get("error"):
        return "!"
    if event.kind == "request.answered" and isinstance(status, int) and status >= 500:
        return "!"
    if event.kind in _BEGIN:
        return "→"
    if event.kind in _AGAIN:
        return "↻"
    return "·" if event.kind == "log" else "←"


def _request(event: Event) -> str:
    data = event.data
    if event.kind == "request.received":
        return f"{data['method']} {data['path']}"
    why = f"  ({data['error']})" if data.get("error") else ""
    return f"{data['status']} {data['method']} {data['path']} in {data['durationMs']} ms{why}"


def _started(event: Event) -> str:
    return "invoked, cold" if event.data.get("cold") else "invoked"


def _ended(event: Event) -> str:
    data = event.data
    init = f", init {data['initMs']} ms" if data.get("initMs") else ""
    return (
        f"done in {data['durationMs']} ms, billed {data['billedMs']} ms, "
        f"{data['maxMemoryMb']} of {data['memoryMb']} MB{init}"
    )


def _environment(event: Event) -> str:
    if event.kind == "environment.started":
        return f"environment ready, init {event.data['initMs']} ms"
    return f"environment {event.data.get('reason', 'stopped')}"


def _log(event: Event) -> str:
    return str(event.data.get("line", event.data.get("message", "")))


def _rest(event: Event) -> str:
    words = [event.kind]
    words += [str(event.data[name]) for name in ("task", "name", "message") if event.data.get(name)]
    words += [value for value in (event.task_id, event.message_id) if value]
    return " ".join(words)


_TEXTS: dict[str, Callable[[Event], str]] = {
    "request.received": _request,
    "request.answered": _request,
    "invocation.started": _started,
    "invocation.ended": _ended,
    "environment.started": _environment,
    "environment.stopped": _environment,
    "log": _log,
}


def text_of(event: Event) -> str:
    """The line without time and mark."""
    return _TEXTS.get(event.kind, _rest)(event)
