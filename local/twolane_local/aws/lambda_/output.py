"""Records the output of a function in the journal, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.journal.lines import record

if TYPE_CHECKING:
    from twolane_local.aws.lambda_.environment import Work
    from twolane_local.journal import Journal


#: The length of a frame's header, in bytes.
_HEADER = 16


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


class Frames:
    """Splits the runtime client's framed log into records, which may have several lines.

    A frame is four bytes of type, four of length, eight of time, and the record
    (``FramedTelemetryLogSink`` of awslambdaric), as Lambda reads it.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The records that ``data`` completes."""
        buffer = self._rest + data
        records: list[bytes] = []
        start = 0
        while len(buffer) - start >= _HEADER:
            end = start + _HEADER + int.from_bytes(buffer[start + 4 : start + 8], "big")
            if end > len(buffer):
                break
            records.append(buffer[start + _HEADER : end])
            start = end
        self._rest = buffer[start:]
        return records


class Output:
    """Records the output of one environment in the journal and in the log of its invocation."""

    def __init__(self, journal: Journal, function: str) -> None:
        self._journal = journal
        self._function = function
        self._lines = Lines()
        self._frames = Frames()
        #: The invocation to which the output belongs.
        self.work: Work | None = None

    def lines(self, data: bytes) -> None:
        """Record a part of stdout or stderr."""
        self._record(self._lines.feed(data))

    def frames(self, data: bytes) -> None:
        """Record a part of the framed log."""
        self._record(self._frames.feed(data))

    def flush(self) -> None:
        """Record the unfinished last line."""
        self._record(self._lines.flush())

    def _record(self, lines: list[bytes]) -> None:
        work = self.work
        for line in lines:
            if work is not None:
                work.log.append(line if line.endswith(b"\n") else line + b"\n")
            record(self._journal, self._function, work.request_id if work else None, line)
