"""Events as lines of a terminal.

On a terminal an event is a line that is easy to scan: ``→`` something begins, ``←`` it ends well,
``↻`` it will run again, ``!`` needs attention, ``·`` is the application's own log. A line has a
time, a sign, the function or queue, a text, and the short id that the events of one request or task
share.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from twolane_local.journal.tracebacks import brief, fold, split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.journal import Event


#: Kinds that only repeat another line.
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
_ATTENTION = frozenset(
    {"request.failed", "invocation.throttled", "invocation.dropped", "message.dead_lettered",
     "message.expired", "task.failed", "task.rejected", "inline.failed", "inline.lost"}
)  # fmt: skip
#: Loggers of libraries that repeat one of our events, or log nothing of interest here.
_CHATTER = ("celery.worker", "celery.app.trace", "botocore", "boto3", "urllib3", "mangum",
            "kombu", "asyncio", "moto")  # fmt: skip


class EventPrinter:
    """Writes events to ``out``; ``verbose``: the steps in between, libraries' logs, and the frames
    of frameworks in tracebacks.
    """

    def __init__(self, out: TextIO, *, verbose: bool = False, colour: bool | None = None) -> None:
        self._out = out
        self._verbose = verbose
        # https://no-color.org
        wanted = out.isatty() and not os.environ.get("NO_COLOR")
        self._colour = wanted if colour is None else colour

    def write(self, event: Event) -> None:
        """Write the event's line, unless it is a detail."""
        if not self._verbose and is_detail(event):
            return
        # A full disk or a closed terminal must not stop the emulator.
        with suppress(OSError):
            self._out.write(self.line(event) + "\n")

    def line(self, event: Event) -> str:
        """Return the line, without its newline."""
        mark = mark_of(event)
        stamp = time.strftime("%H:%M:%S", time.localtime(event.at))
        who = event.function or event.queue or str(event.data.get("schedule", "gateway"))
        identity = event.task_id or event.request_id or event.message_id or ""
        # Other people's text: a task's log line must not control this terminal.
        text = text_of(event)
        text = printable(text if self._verbose else fold(text))
        tail = f"  {identity[:8]}" if identity else ""
        line = f"{stamp}.{int(event.at % 1 * 1000):03d} {mark} {who:<15} {text}{tail}"
        return f"\x1b[31m{line}\x1b[0m" if self._colour and mark == "!" else line


def is_detail(event: Event) -> bool:
    """Return whether only ``--verbose`` shows the event."""
    if event.kind == "log":
        logger = str(event.data.get("logger", ""))
        quiet = event.data.get("level") in {None, "DEBUG", "INFO"}
        return quiet and logger.startswith(_CHATTER)
    return event.kind in _DETAIL


def mark_of(event: Event) -> str:
    """Return one of ``→ ← ↻ !``, or ``·`` for a plain log line."""
    status = event.data.get("status")
    if event.kind in _ATTENTION or event.data.get("error"):
        return "!"
    if event.kind == "request.answered" and isinstance(status, int) and status >= 500:
        return "!"
    if event.kind == "log":
        return "!" if event.data.get("level") in {"ERROR", "CRITICAL"} else "·"
    if event.kind in _BEGIN:
        return "→"
    return "↻" if event.kind in _AGAIN else "←"


def _request_text(event: Event) -> str:
    data = event.data
    if event.kind == "request.received":
        return f"{data['method']} {data['path']}"
    why = f" ({brief(str(data['error']))})" if data.get("error") else ""
    return f"{data['status']} {data['method']} {data['path']} {data['durationMs']} ms{why}"


def _ended_text(event: Event) -> str:
    data = event.data
    why = f"; {data['reason']}" if data.get("reason") else ""
    init = f", {_init_text(data)}" if data.get("initMs") or data.get("restoreMs") else ""
    return (
        f"REPORT {data['durationMs']} ms, billed {data['billedMs']} ms, "
        f"{data['maxMemoryMb']}/{data['memoryMb']} MB{init}{why}"
    )


def _init_text(data: Mapping[str, Any]) -> str:
    phase = "restore" if "restoreMs" in data else "init"
    return f"{phase} {data[f'{phase}Ms']:.0f} ms"


def _log_text(event: Event) -> str:
    text, trace = log_parts(event)
    return f"{text}\n{trace}" if trace else text


def log_parts(event: Event) -> tuple[str, str]:
    """Return a line's message and its traceback, which may be text in the message."""
    text = str(event.data.get("message") or event.data.get("line", ""))
    trace = stack_trace(event)
    return (text, trace) if trace else split(text)


def stack_trace(event: Event) -> str:
    """Return the traceback of a line, or an empty text. It is a list in Lambda's own JSON log;
    python-json-logger and structlog have other names for it.
    """
    names = ("stackTrace", "exc_info", "exception")
    trace = next((found for name in names if (found := event.data.get(name))), None)
    if isinstance(trace, list):
        trace = "".join(map(str, trace))
        return f"Traceback (most recent call last):\n{trace}" if trace else ""
    return trace if isinstance(trace, str) else ""


def _failure_text(event: Event) -> str:
    """Return the runtime's own text, with its traceback."""
    return _log_text(event).removeprefix("! ")


def _step_text(event: Event) -> str:
    """Return ``failed app.tasks.send``, with its duration and error."""
    data = event.data
    words = [event.kind.partition(".")[2].replace("_", " ") or event.kind]
    words += [str(data[name]) for name in ("taskName", "task", "name") if data.get(name)][:1]
    if data.get("durationMs") is not None:
        words.append(f"{data['durationMs']:.0f} ms")
    if data.get("error") or event.kind in _ATTENTION | _AGAIN:
        words += [str(data[name]) for name in ("error", "reason", "message") if data.get(name)][:1]
    return " ".join(words)


_TEXTS: dict[str, Callable[[Event], str]] = {
    "request.received": _request_text,
    "request.answered": _request_text,
    "invocation.started": lambda event: "invoked, cold" if event.data.get("cold") else "invoked",
    "invocation.dropped": _log_text,
    "invocation.ended": _ended_text,
    "environment.started": lambda event: f"environment ready, {_init_text(event.data)}",
    "environment.stopped": lambda event: f"environment {event.data.get('reason', 'stopped')}",
    "request.failed": _failure_text,
    "inline.failed": _failure_text,
    "log": _log_text,
}


def text_of(event: Event) -> str:
    return _TEXTS.get(event.kind, _step_text)(event)


#: Control characters except tab and newline: a message's text must not move the cursor, rename the
#: window or answer for the user. C1 (0x80-0x9f) has the one-character forms of escapes; the next
#: ranges change the direction of writing, which deceives a reader; and a lone surrogate cannot be
#: written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return the text with control characters written as ``\\x1b`` and the like."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
