"""Where a process stands that does not go on: it is asked by a signal, and answers on its stderr.

The signal is one that does nothing where nobody has registered for it, and faulthandler answers
even from within a call of C.
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

ASK = signal.SIGURG
_ANSWER = re.compile(rb"Stack \(most recent call first\):\n((?:  [^\n]*\n)+)")
_FRAME = re.compile(r'  File "([^"]+)", line (\d+) in (.+)')
#: It answers within a millisecond, if a core is free.
_PATIENCE_S, _REST_S = 0.5, 0.05


def answer_when_asked() -> None:
    """In the process, before anything that may hang."""
    with suppress(ValueError, RuntimeError, OSError):  # no stderr: it cannot be asked
        faulthandler.register(ASK, file=sys.__stderr__ or 2, all_threads=False)


class Whereabouts:
    """Of one process: takes the answer out of what it writes."""

    def __init__(self) -> None:
        self._asked: asyncio.Future[bytes] | None = None
        self._kept = b""

    async def ask(self, pid: int) -> tuple[bytes, bytes]:
        """The frames, or nothing; and what the process has written beside."""
        self._asked = asyncio.get_running_loop().create_future()
        self._kept = b""
        with suppress(ProcessLookupError):
            os.kill(pid, ASK)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._asked
        self._asked = None
        kept, self._kept = self._kept, b""
        found = _ANSWER.search(kept)
        if found is None:
            return b"", kept
        return found[1], kept[: found.start()] + kept[found.end() :]

    def takes(self, data: bytes) -> bool:
        """Whether this may be the answer, and is kept until that is known."""
        if self._asked is None:
            return False
        self._kept += data
        if _ANSWER.search(self._kept):  # faulthandler writes it in pieces
            self._asked.get_loop().call_later(_REST_S, _done, self._asked)
        return True


def _done(asked: asyncio.Future[bytes]) -> None:
    if not asked.done():
        asked.set_result(b"")


def frames_of(answer: bytes) -> list[tuple[str, int, str]]:
    """File, line and function of each frame, the innermost first."""
    found = _FRAME.findall(answer.decode(errors="replace"))
    return [(file, int(line), name) for file, line, name in found]


def said(frames: Iterable[tuple[str, int, str]], folder: Path) -> str:
    """In a few words, by the function's own code in ``folder``; nothing where it is not there."""
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
