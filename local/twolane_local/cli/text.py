"""What goes to a terminal: tables, times, and text that others wrote, made safe to print."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from twolane_local.http.json_text import utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


#: Control characters, but for tab and newline: a message's text must not move a cursor, retitle a
#: window or answer for the user. C1 (0x80-0x9f) holds an escape's one-character forms; the next
#: ranges are those that turn the direction of writing, and so what a reader believes to see; and
#: a lone surrogate cannot be written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters shown as ``\\x1b`` and the like."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: str, width: int | None = None) -> str:
    """Printable, without line breaks, cut with ``…`` at ``width`` columns."""
    flat = " ".join(printable(text).split())
    return flat if width is None or columns(flat) <= width else _cut(flat, width - 1) + "…"


def columns(text: str) -> int:
    """How many columns a terminal takes for it: East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(each) in {"W", "F"} for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)


def _cut(text: str, width: int) -> str:
    while columns(text) > width:
        text = text[:-1]
    return text


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[int] = ()) -> str:
    """Columns as wide as what is in them, two spaces between; ``right`` ones end flush.

    ``None`` is shown as nothing. The last column is not padded.
    """
    cells = [[one_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(head, *cells, strict=True)]
    flush = frozenset(right)

    def line(row: Sequence[str]) -> str:
        padded = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - columns(cell))
            padded.append(space + cell if number in flush else cell + space)
        return "  ".join(padded).rstrip()

    return "\n".join([line(head), *map(line, cells)])


def milliseconds(value: float | None) -> str:
    """``12 ms``, ``1.3 s``, ``4 min 5 s``."""
    if value is None:
        return ""
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 60_000 else seconds(value / 1000)


def seconds(value: float | None) -> str:
    """``41 s``, ``4 min 5 s``, ``2 h 3 min``, ``3 d 4 h``: the two largest parts."""
    if value is None:
        return ""
    rest = max(0, round(value))
    parts: list[str] = []
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def error_text(error: Any) -> str:
    """``ValueError: no good``, of an error of the API (text, or ``{type, message}``) or of none."""
    if not isinstance(error, dict):
        return str(error or "")
    kind, message = str(error.get("type") or ""), str(error.get("message") or "")
    named = message.partition(":")[0].rpartition(".")[2]  # `app.mail.RefusedError: …`
    if kind and named == kind:
        return kind + message[message.index(kind) + len(kind) :]
    return ": ".join(word for word in (kind, message) if word)


def say(text: str, stream: TextIO | None = None) -> None:
    print(text, file=stream or sys.stdout)


def say_json(value: Any) -> None:
    """One line for scripts, indented for a person who looks at it."""
    text = json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    print(utf8(text).decode())


def red(text: str, stream: TextIO) -> str:
    """Red on a terminal, unless https://no-color.org is asked for."""
    coloured = stream.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[31m{text}\x1b[0m" if coloured else text


PATIENCE_S = 2.0


@contextmanager
def progress(
    what: str, *, stream: TextIO | None = None, patience_s: float = PATIENCE_S
) -> Iterator[Callable[[str], None]]:
    """Show ``what`` on a terminal once it takes long; the yielded function says how far it is.

    Nothing is written where the stream is no terminal, and nothing is left on the line at the end.
    """
    out = stream or sys.stderr
    line = _Line(out, what)
    if not out.isatty():
        yield line.note
        return
    timer = threading.Timer(patience_s, line.show)
    timer.daemon = True
    timer.start()
    try:
        yield line.note
    finally:
        timer.cancel()
        line.clear()


class _Line:
    def __init__(self, out: TextIO, what: str) -> None:
        self._out, self._what = out, what
        self._lock = threading.Lock()
        self._shown = self._over = False

    def show(self) -> None:
        with self._lock:
            if not self._over:
                self._shown = True
                self._write()

    def note(self, how_far: str) -> None:
        with self._lock:
            self._what = how_far
            if self._shown:
                self._write()

    def clear(self) -> None:
        with self._lock:
            self._over = True
            if self._shown:
                self._out.write("\r\x1b[K")
                self._out.flush()

    def _write(self) -> None:
        self._out.write(f"\r\x1b[K… {self._what}")
        self._out.flush()
