"""Takes the runtime's log lines of in-process functions out of this process's output.

What the runtime logs as JSON goes into the journal; everything else a handler prints passes
through untouched, so that a debugger's prompt works.
"""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from twolane_local.environments import output

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from twolane_local.journal import Journal

#: The function and request of the thread or task that writes; ``None`` outside of functions.
current: ContextVar[tuple[str, str | None] | None] = ContextVar("twolane_current", default=None)


class Capture(io.TextIOBase):
    """Stands in front of one of the process's streams."""

    def __init__(self, stream: TextIO, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._journal = journal
        self._loop = loop

    def write(self, text: str) -> int:
        writer = current.get()
        if writer is None or not text.startswith("{") or not text.endswith("}\n"):
            return self._stream.write(text)
        for line in text.splitlines():
            self._loop.call_soon_threadsafe(
                output.record, self._journal, writer[0], writer[1], line.encode()
            )
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


@contextmanager
def captured(journal: Journal, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Capture both streams until the end of the block."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Capture(out, journal, loop), Capture(err, journal, loop)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
