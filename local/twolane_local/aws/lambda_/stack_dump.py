"""Finds the position of a process that hangs: a signal makes it write its stack to stderr.

A process that has not registered for the signal ignores it. faulthandler answers even during a
call into C.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import re
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SIGNAL = signal.SIGURG
_STACK = re.compile(rb"Stack \(most recent call first\):\n((?:  [^\n]*\n)+)")
_FRAME = re.compile(r'  File "([^"]+)", line (\d+) in (.+)')
#: The stack comes within a millisecond if a core is free; ``_REST_S`` later it is complete.
_PATIENCE_S, _REST_S = 0.5, 0.05


def enable() -> None:
    """Write the stack on the signal; call it in the process, before anything that may hang."""
    with suppress(ValueError, RuntimeError, OSError):  # there is no stderr
        faulthandler.register(_SIGNAL, file=sys.__stderr__ or 2, all_threads=False)


class StackDump:
    """Requests the stack of one process, and filters it out of the process's output."""

    def __init__(self) -> None:
        self._complete: asyncio.Event | None = None
        self._output = b""

    async def request(self, pid: int) -> tuple[list[tuple[str, int, str]], bytes]:
        """The frames (file, line, function; the innermost first), and the other output."""
        self._complete = asyncio.Event()
        self._output = b""
        with suppress(ProcessLookupError):
            os.kill(pid, _SIGNAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._complete.wait()
        self._complete = None
        output, self._output = self._output, b""
        found = _STACK.search(output)
        if found is None:
            return [], output
        frames = _FRAME.findall(found[1].decode(errors="replace"))
        others = output[: found.start()] + output[found.end() :]
        return [(file, int(line), name) for file, line, name in frames], others

    def consume(self, data: bytes) -> bool:
        """Keep output while a stack is requested; returns False if none is."""
        if self._complete is None:
            return False
        self._output += data
        if _STACK.search(self._output):  # faulthandler writes it in pieces
            asyncio.get_running_loop().call_later(_REST_S, self._complete.set)
        return True


def position(frames: Iterable[tuple[str, int, str]], folder: Path) -> str:
    """The innermost frame of the function's own code in ``folder``, in a few words, or empty."""
    found = list(frames)
    is_lifespan = any(file.endswith("/lifespan.py") for file, _, _ in found)
    own = [each for each in found if each[0].startswith(f"{folder}{os.sep}")]
    own = [each for each in own if "/twolane/" not in each[0]] or own[:1]
    where = (
        f"{own[0][0].removeprefix(f'{folder}{os.sep}')}:{own[0][1]} in {own[0][2]}" if own else ""
    )
    if is_lifespan:
        return f"the startup of the application's lifespan, from {where}".removesuffix(", from ")
    return where
