"""Text for a terminal: tables, times, errors, progress and JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from twolane_local.cli import exits
from twolane_local.http.json_text import utf8
from twolane_local.journal.lines import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Sequence


def one_line(text: str, width: int | None = None) -> str:
    """Return the text printable, without line breaks, cut with ``…`` at ``width`` columns."""
    flat = " ".join(printable(text).split())
    return flat if width is None or columns(flat) <= width else _cut(flat, width - 1) + "…"


def columns(text: str) -> int:
    """Return the columns of a text on a terminal: East Asian wide characters have two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(each) in {"W", "F"} for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)


def _cut(text: str, width: int) -> str:
    while columns(text) > width:
        text = text[:-1]
    return text


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[int] = ()) -> str:
    """Return aligned columns, those in ``right`` to the right; ``None`` is an empty cell."""
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
    """Return ``12 ms``, ``1.3 s`` or ``4 min 5 s``."""
    if value is None:
        return ""
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 60_000 else seconds(value / 1000)


def seconds(value: float | None) -> str:
    """Return ``41 s``, ``4 min 5 s``, ``2 h 3 min`` or ``3 d 4 h``: the two largest units."""
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
    """Return ``ValueError: no good`` from the API's error: text, ``{type, message}`` or none."""
    if not isinstance(error, dict):
        return str(error or "")
    kind, message = str(error.get("type") or ""), str(error.get("message") or "")
    named = message.partition(":")[0].rpartition(".")[2]  # `app.mail.RefusedError: …`
    if kind and named == kind:
        return kind + message[message.index(kind) + len(kind) :]
    return ": ".join(word for word in (kind, message) if word)


def print_found(options: Namespace, found: Any, text: str | Callable[[Any], str]) -> int:
    """Print what was found as JSON with ``--json``, else as text; return 0."""
    if options.json:
        print_json(found)
    else:
        print(text if isinstance(text, str) else text(found))
    return exits.DONE


def print_json(value: Any) -> None:
    """Print one line, or indented JSON on a terminal."""
    text = json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    print(utf8(text).decode())


def red(text: str, stream: TextIO) -> str:
    """Return the text in red for a terminal, unless https://no-color.org is set."""
    coloured = stream.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[31m{text}\x1b[0m" if coloured else text


PATIENCE_S = 2.0


@contextmanager
def progress(
    text: str, *, stream: TextIO | None = None, patience_s: float = PATIENCE_S
) -> Iterator[Callable[[str], None]]:
    """Show a text on a terminal after ``patience_s``, until the end; yields what replaces it."""
    out = stream or sys.stderr
    line = _ProgressLine(out, text)
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


class _ProgressLine:
    def __init__(self, out: TextIO, text: str) -> None:
        self._out, self._text = out, text
        self._lock = threading.Lock()
        self._shown = self._over = False

    def show(self) -> None:
        with self._lock:
            if not self._over:
                self._shown = True
                self._write()

    def note(self, text: str) -> None:
        with self._lock:
            self._text = text
            if self._shown:
                self._write()

    def clear(self) -> None:
        with self._lock:
            self._over = True
            if self._shown:
                self._out.write("\r\x1b[K")
                self._out.flush()

    def _write(self) -> None:
        self._out.write(f"\r\x1b[K… {self._text}")
        self._out.flush()
