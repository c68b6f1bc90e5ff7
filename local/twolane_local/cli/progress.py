"""A line for a person who waits: nothing for two seconds, then what is under way."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
