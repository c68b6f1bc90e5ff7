"""What a process and all that it started use, by Linux's own count."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # gone by now
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_s(pid: int) -> float:
    """Seconds of processor time, those of children that are gone included."""
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            total += sum(map(int, _stat(each)[11:15]))
    return total / _TICKS


def memory_mb(pid: int) -> float:
    """What they hold together, a shared page counted once."""
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            rollup = (_PROC / str(each) / "smaps_rollup").read_text()
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
    return total / 1024
