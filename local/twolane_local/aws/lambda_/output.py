"""Records the output of a function in the journal and in its log, line by line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_.framed_log import EVENT, LOGGED_EVENT, Frames
from twolane_local.aws.lambda_.report import (
    ERROR,
    TAIL_BYTES,
    UNLOGGED,
    Report,
    SystemLog,
    error_line,
    error_type,
    task_paths,
    text_of,
    time_out_line,
)
from twolane_local.journal import record_line
from twolane_local.journal.tracebacks import START
from twolane_local.model import LATEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.lambda_.environment import Work
    from twolane_local.aws.lambda_.report import Line
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


class Lines:
    """Splits a stream of bytes into lines; keeps the unfinished last one."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def flush(self) -> list[bytes]:
        """The unfinished line, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Sink(Protocol):
    """Gets the lines of one environment: a log stream."""

    def put(self, line: Line, shown: Callable[[bytes], bytes]) -> None:
        """Append a line; ``shown`` makes the text that readers get."""


class Gathering:
    """Puts the lines of a traceback together, from lines of text output."""

    def __init__(self) -> None:
        self._open: list[bytes] = []

    def add(self, line: bytes) -> list[bytes]:
        """Return what is complete with this line: lines, or a whole traceback as one."""
        begins = line.rstrip().endswith(START.encode())
        if not self._open:
            if begins:
                self._open.append(line)
                return []
            return [line]
        if begins or line.startswith((b" ", b"\xc2\xa0")):
            self._open.append(line)
            return []
        # The error's own line ends it; another traceback may follow, of what came of the error.
        return [b"\n".join([*self.flush_lines(), line])]

    def flush_lines(self) -> list[bytes]:
        """Return the lines of an unfinished traceback."""
        lines, self._open = self._open, []
        return lines

    def flush(self) -> list[bytes]:
        """Return an unfinished traceback as one."""
        return [b"\n".join(lines)] if (lines := self.flush_lines()) else []


class Output:
    """Records the output of one environment in the journal and in its log.

    The journal has the paths of this machine, which a terminal can open; the log and its tail have
    those of Lambda.
    """

    def __init__(
        self,
        journal: Journal,
        spec: FunctionSpec,
        sink: Sink | None = None,
        version: str = LATEST,
        *,
        on_terminal: bool = False,
    ) -> None:
        """``on_terminal``: the terminal shows the output itself; the journal does not get it."""
        self._on_terminal = on_terminal
        self._journal = journal
        self._function = spec.name
        self._sink = sink
        self._system = SystemLog(spec, version)
        self._lines = Lines()
        self._tracebacks = Gathering()
        self._frames = Frames()
        #: The text as Lambda's logs and errors show it.
        self.shown = task_paths(spec)
        #: The invocation to which the output belongs.
        self.work: Work | None = None

    def lines(self, data: bytes) -> None:
        """Record a part of stdout or stderr."""
        self._record_text(self._lines.feed(data))

    def frames(self, data: bytes) -> None:
        """Record a part of the framed log."""
        request_id = self.work.request_id if self.work else None
        for kind, record in self._frames.feed(data):
            if kind in {EVENT, LOGGED_EVENT}:
                logged = record if kind == LOGGED_EVENT else None
                self.event(record, request_id, logged=logged)
            else:
                self._record(record)

    def event(self, line: bytes, request_id: str | None, *, logged: bytes | None) -> None:
        """Record an event of the runtime; ``logged`` is its line of the log, if it has one."""
        if logged is not None:
            self._write(logged)
        record_line(self._journal, self._function, request_id, line)

    def failure(self, line: bytes) -> None:
        """Record the line of an error that the handler raised."""
        self.add(line)
        request_id = self.work.request_id if self.work else None
        record_line(self._journal, self._function, request_id, line)

    def flush(self) -> None:
        """Record the unfinished last line."""
        self._record_text(self._lines.flush())
        self._journalled(self._tracebacks.flush())

    def add(self, line: bytes) -> None:
        """Add a line to the log only."""
        self._append(line)

    def _record_text(self, lines: list[bytes]) -> None:
        """Record lines; in the log a traceback is several, as on Lambda, in the journal one."""
        for line in lines:
            self._write(line)
            self._journalled(self._tracebacks.add(line))

    def _record(self, line: bytes) -> None:
        self._write(line)
        self._journalled([line])

    def _journalled(self, lines: list[bytes]) -> None:
        request_id = self.work.request_id if self.work else None
        for line in () if self._on_terminal else lines:
            record_line(self._journal, self._function, request_id, line)

    def _write(self, line: bytes) -> None:
        if not (self._system.filters and self._system.hides(line)):
            self._append(line if line.endswith(b"\n") else line + b"\n")

    def _append(self, line: Line) -> None:
        if self.work is not None:
            self.work.log.append(line)
        if self._sink is not None:
            self._sink.put(line, self.shown)

    # The phases of the environment.

    def init_begins(self, kind: str = "on-demand") -> None:
        self._append(self._system.init_start(kind, self._journal.now()))

    def init_fails(self, duration_ms: float, error: str = "") -> None:
        """The init failed with this type of error, or took too long."""
        self._append(self._system.init_report(duration_ms, error, self._journal.now()))

    def begins(self, work: Work) -> None:
        """What follows is the output of an invocation."""
        self.work = work
        line = self._system.start(work.request_id, self._journal.now())
        if line is not None:
            self._append(line)

    def times_out(self, timeout_s: float) -> None:
        """The invocation is ended by its timeout."""
        if self.work is not None:
            self.flush()
            self._append(time_out_line(self.work.request_id, timeout_s, self._journal.now()))

    def tail(self, work: Work, report: Report, status: str, error: str = "") -> Callable[[], bytes]:
        """Makes the log's last 4 KB as of now, with what its end adds; few callers want it."""
        now = self._journal.now()
        return partial(self._tail, tuple(work.log), work.request_id, report, now, status, error)

    def _tail(self, lines: tuple[Line, ...], *end: Any) -> bytes:
        text = b"".join(map(text_of, (*lines, *self._system.end(*end))))
        return self.shown(text)[-TAIL_BYTES:]

    def refuse(self, work: Work, failure: bytes, memory_mb: int) -> Invocation:
        """Record an invocation that ends with the error object of a failed init."""
        figures, kind = Report(0.0, memory_mb, 0, None), error_type(failure)
        self.begins(work)
        if kind in UNLOGGED:
            self._append(error_line(failure))
        tail = self.tail(work, figures, ERROR, kind)
        self.ends(figures, ERROR, kind)
        return Invocation(work.request_id, self.shown(failure), "Unhandled", tail)

    def ends(self, report: Report, status: str, error: str = "") -> None:
        """The invocation has ended; an unfinished line is complete with it."""
        work = self.work
        if work is None:
            return
        self.flush()
        if self._sink is not None:
            now = self._journal.now()
            for line in self._system.end(work.request_id, report, now, status, error):
                self._sink.put(line, self.shown)
        self.work = None
