"""The journal on a terminal: one line a step, which scans at a glance.

``→`` something begins, ``←`` it ends well, ``↻`` it comes again, ``!`` it needs a look, ``·`` is
what the application itself logs. A line is: time, sign, who, what, and at its end the short id by
which the steps of one request or task are found again.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.journal import Event

#: Kinds that only repeat what another line says.
_DETAIL = frozenset(
    {"environment.frozen", "message.received", "message.deleted", "tick", "invocation.responded",
     "invocation.started", "batch.received", "batch.invoked", "message.sent"}
)  # fmt: skip
_BEGIN = frozenset(
    {"request.received", "invocation.started", "message.sent", "task.published", "task.started",
     "inline.started", "schedule.fired"}
)  # fmt: skip
_AGAIN = frozenset(
    {"task.retried", "task.deferred", "task.duplicate", "task.returned", "message.returned",
     "inline.deferred"}
)  # fmt: skip
_LOOK = frozenset(
    {"invocation.throttled", "invocation.dropped", "message.dead_lettered", "message.expired",
     "task.failed", "task.rejected", "inline.failed", "inline.lost"}
)  # fmt: skip
#: Loggers of libraries that say again what a step of ours says, or nothing that matters here.
_CHATTER = ("celery.worker", "celery.app.trace", "botocore", "boto3", "urllib3", "mangum",
            "kombu", "asyncio")  # fmt: skip


class Console:
    """Writes events to ``out``; give its ``tell`` to ``Journal.subscribe``.

    ``verbose`` also writes the steps in between and what libraries log.
    """

    def __init__(self, out: TextIO, *, verbose: bool = False, colour: bool | None = None) -> None:
        self._out = out
        self._verbose = verbose
        # https://no-color.org
        wanted = out.isatty() and not os.environ.get("NO_COLOR")
        self._colour = wanted if colour is None else colour

    def tell(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        if not self._verbose and is_detail(event):
            return
        # A log on a full disk, a terminal that is gone: what the line is about goes on.
        with suppress(OSError):
            self._out.write(self.line(event) + "\n")

    def line(self, event: Event) -> str:
        """The whole line, without its end."""
        mark = mark_of(event)
        stamp = time.strftime("%H:%M:%S", time.localtime(event.at))
        who = event.function or event.queue or str(event.data.get("schedule", "gateway"))
        identity = event.task_id or event.request_id or event.message_id or ""
        # What others wrote: a task's log line must not drive this terminal.
        text = printable(text_of(event))
        tail = f"  {identity[:8]}" if identity else ""
        line = f"{stamp}.{int(event.at % 1 * 1000):03d} {mark} {who:<15} {text}{tail}"
        return f"\x1b[31m{line}\x1b[0m" if self._colour and mark == "!" else line


def is_detail(event: Event) -> bool:
    """Whether the line is for ``--verbose`` alone."""
    if event.kind == "log":
        logger = str(event.data.get("logger", ""))
        quiet = event.data.get("level") in {None, "DEBUG", "INFO"}
        return quiet and logger.startswith(_CHATTER)
    return event.kind in _DETAIL


def mark_of(event: Event) -> str:
    """One of ``→ ← ↻ !``, or a point for a plain log line."""
    status = event.data.get("status")
    if event.kind in _LOOK or event.data.get("error"):
        return "!"
    if event.kind == "request.answered" and isinstance(status, int) and status >= 500:
        return "!"
    if event.kind == "log":
        return "!" if event.data.get("level") in {"ERROR", "CRITICAL"} else "·"
    if event.kind in _BEGIN:
        return "→"
    return "↻" if event.kind in _AGAIN else "←"


def _request(event: Event) -> str:
    data = event.data
    if event.kind == "request.received":
        return f"{data['method']} {data['path']}"
    why = f" ({data['error']})" if data.get("error") else ""
    return f"{data['status']} {data['method']} {data['path']} {data['durationMs']} ms{why}"


def _started(event: Event) -> str:
    return "invoked, cold" if event.data.get("cold") else "invoked"


def _ended(event: Event) -> str:
    data = event.data
    why = f"; {data['reason']}" if data.get("reason") else ""
    init = f", {_began(data)}" if data.get("initMs") or data.get("restoreMs") else ""
    return (
        f"REPORT {data['durationMs']} ms, billed {data['billedMs']} ms, "
        f"{data['maxMemoryMb']}/{data['memoryMb']} MB{init}{why}"
    )


def _began(data: Mapping[str, Any]) -> str:
    what = "restore" if "restoreMs" in data else "init"
    return f"{what} {data[f'{what}Ms']:.0f} ms"


def _environment(event: Event) -> str:
    if event.kind == "environment.started":
        return f"environment ready, {_began(event.data)}"
    return f"environment {event.data.get('reason', 'stopped')}"


def _log(event: Event) -> str:
    text = str(event.data.get("message") or event.data.get("line", ""))
    trace = event.data.get("stackTrace")
    return f"{text}\n{trace}" if isinstance(trace, str) else text


def _step(event: Event) -> str:
    """``failed app.tasks.send``, with what there is to say about it."""
    data = event.data
    words = [event.kind.partition(".")[2].replace("_", " ") or event.kind]
    words += [str(data[name]) for name in ("taskName", "task", "name") if data.get(name)][:1]
    if data.get("durationMs") is not None:
        words.append(f"{data['durationMs']:.0f} ms")
    if data.get("error") or event.kind in _LOOK | _AGAIN:
        words += [str(data[name]) for name in ("error", "reason", "message") if data.get(name)][:1]
    return " ".join(words)


_TEXTS: dict[str, Callable[[Event], str]] = {
    "request.received": _request,
    "request.answered": _request,
    "invocation.started": _started,
    "invocation.dropped": _log,
    "invocation.ended": _ended,
    "environment.started": _environment,
    "environment.stopped": _environment,
    "log": _log,
}


def text_of(event: Event) -> str:
    """What happened, in a short phrase."""
    return _TEXTS.get(event.kind, _step)(event)


#: Control characters, but for tab and newline: a message's text must not move a cursor, retitle a
#: window or answer for the user. C1 (0x80-0x9f) holds an escape's one-character forms; the next
#: ranges are those that turn the direction of writing, and so what a reader believes to see; and
#: a lone surrogate cannot be written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters shown as ``\\x1b`` and the like."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
