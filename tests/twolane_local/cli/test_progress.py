from __future__ import annotations

import io
import threading

from twolane_local.cli.text import progress


class Terminal(io.StringIO):
    """Tells when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.written.set()


def test_what_is_quick_says_nothing() -> None:
    out = Terminal()
    with progress("working", stream=out, patience_s=60) as note:
        note("half way")
    assert out.getvalue() == ""


def test_what_takes_long_says_what_it_does_and_leaves_no_trace() -> None:
    out = Terminal()
    with progress("working", stream=out, patience_s=0) as note:
        assert out.written.wait(10)
        note("half way")
    assert out.getvalue() == "\r\x1b[K… working\r\x1b[K… half way\r\x1b[K"


def test_nothing_is_written_where_nobody_waits() -> None:
    out = io.StringIO()
    with progress("working", stream=out, patience_s=0) as note:
        note("half way")
    assert out.getvalue() == ""
