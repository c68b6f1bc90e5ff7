"""From the runtime's log records, without a stream in between, to the journal."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twolane.environment.logs import correlation
from twolane_local.journal import log_lines
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.journal import Journal


class Narrator(logging.Handler):
    """Journals what twolane's runtime tells, and what handlers log."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        process = current.get()
        told: dict[str, Any] | None = getattr(record, "twolane", None)
        if (process is not None and process.dead) or (told is None and process is None):
            return
        fields: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(correlation.get() or {}),
            **(told or {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields.setdefault("error", repr(record.exc_info[1]))
        function, request_id = process.about if process is not None else (None, None)
        log_lines.record_fields(self._journal, function, request_id, fields)


@contextmanager
def narrated(journal: Journal) -> Iterator[None]:
    """Journal it inside of the block."""
    narrator = Narrator(journal)
    root, ours = logging.getLogger(), logging.getLogger("twolane")
    level = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(narrator)
    try:
        yield
    finally:
        root.removeHandler(narrator)
        ours.setLevel(level)


def is_journaled(record: logging.LogRecord) -> bool:
    """Whether a log line says what the journal says."""
    return hasattr(record, "twolane")
