"""What went wrong without being made to: a machine that is too slow for its limits.

A store that does not answer in time is down to whoever asks it, and a function that is not done in
time is killed. Both are looked for, from outside, so that the checker can name them.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .system import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .system import System

#: An answer that took longer is noted.
SLOW_S = 1.5
_EVERY_S = 0.25
_REPORT = re.compile(r"^(\d\d:\d\d:\d\d\.\d{3}) . Worker +REPORT .*timed out after")


class Probe:
    """Asks the store a few times a second, and notes each answer that came late."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._over = threading.Event()
        self.slow: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        tables = self._system.client("dynamodb") if self._system.store == "dynamodb" else None
        while not self._over.wait(_EVERY_S):
            at = time.time()
            if tables is None:
                self._system.answers_redis(timeout=20)
            else:
                with suppress(Exception):  # however it ended, it is the time that counts
                    tables.get_item(TableName=TABLE, Key={"id": {"S": "probe"}})
            if time.time() - at > SLOW_S:
                self.slow.append(
                    {"fault": "store.slow", "at": at, "until": time.time(), "pids": []}
                )


def timeouts(log: Path, today: datetime) -> Iterator[dict[str, Any]]:
    """The worker's invocations that the emulator says it ended for their time."""
    for line in log.read_text(errors="replace").splitlines():
        if found := _REPORT.match(line):
            clock = datetime.strptime(found[1], "%H:%M:%S.%f").time()  # noqa: DTZ007 - a time alone
            at = datetime.combine(today.date(), clock).timestamp()
            if at < today.timestamp() - 3600:
                at += 86_400  # after midnight
            yield {"fault": "function.timeout", "at": at, "until": at, "pids": []}
