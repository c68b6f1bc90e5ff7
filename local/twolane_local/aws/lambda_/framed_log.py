"""The framed log of an environment: written by its process, read by the emulator.

A frame is four bytes of type, four of length, eight of time, and the record
(``FramedTelemetryLogSink`` of awslambdaric), as Lambda reads it. Frames of two further types hold
the events of the runtime library, so that what the journal counts does not hang on lines that an
application can double, reformat or leave out.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The variable with the descriptor of the runtime client's log, as on Lambda.
LOG_DESCRIPTOR = "_LAMBDA_TELEMETRY_LOG_FD"
#: The types of frames with an event of the runtime library; those of the runtime client begin with
#: 0xa55a. The first is a line of the log too, the second is for the journal only.
LOGGED_EVENT, EVENT = b"2LN\x01", b"2LN\x00"
#: The module in which the runtime library looks for ``event`` (``CHANNEL`` of
#: twolane.environment.logs). A function has a twolane of its own, or none: it is not imported.
CHANNEL = "_twolane_events"
_LINE = b"\xa5\x5a\x00\x03"


class Log:
    """The log of an environment, as its runtime client writes it: used in the place of the client's
    ``FramedTelemetryLogSink``.

    What is logged before ``open`` is written then: by each environment that is forked.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        self._early: list[bytes] = []
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()  # a signal handler may log

    def open(self, descriptor: int) -> None:
        """Write to this descriptor from now on."""
        self._descriptor = descriptor
        early, self._early = self._early, []
        for frame in early:
            self._write(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The client runs until its process ends, which closes it."""

    def log(self, msg: str, frame_type: bytes | None = None) -> None:
        self._frame(frame_type or _LINE, msg)

    def log_error(self, message_lines: Sequence[str]) -> None:
        self._frame(_LINE, "\n".join(message_lines))

    def event(self, line: str, logged: str | None) -> bool:
        """Take an event of the runtime, which no logging of the application's can touch."""
        if logged == line:
            self._frame(LOGGED_EVENT, line)
        else:
            self._frame(EVENT, line)
            if logged is not None:
                self._frame(_LINE, logged)  # with the same id, so that it is not another event
        return True

    def _frame(self, kind: bytes, text: str) -> None:
        data = text.encode()
        stamp = time.time_ns() // 1000
        frame = kind + len(data).to_bytes(4, "big") + stamp.to_bytes(8, "big") + data
        if self._descriptor < 0:
            self._early.append(frame)
        else:
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        with self._lock:  # above PIPE_BUF, writes of two threads could mix
            while frame:
                frame = frame[os.write(self._descriptor, frame) :]


#: This process's own.
log = Log()


#: The length of a frame's header, in bytes.
_HEADER = 16


class Frames:
    """Splits the log into records, which may have several lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The records that ``data`` completes, each after the type of its frame."""
        buffer = self._rest + data
        records: list[tuple[bytes, bytes]] = []
        start = 0
        while len(buffer) - start >= _HEADER:
            end = start + _HEADER + int.from_bytes(buffer[start + 4 : start + 8], "big")
            if end > len(buffer):
                break
            records.append((buffer[start : start + 4], buffer[start + _HEADER : end]))
            start = end
        self._rest = buffer[start:]
        return records
