"""``parent_death.py PARENT_PID PROGRAM ARGUMENT…``: run a program that dies with the emulator.

A script of its own, run by an isolated interpreter: ``preexec_fn`` would fork a process that has
threads. Both ways hold across ``exec``: the kernel's (prctl(2), PR_SET_PDEATHSIG) on Linux, a
watchdog process elsewhere.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

_LOOK_EVERY_S = 0.2


def die_with_parent(parent: int, *, platform: str = sys.platform) -> None:
    """End this process when its parent ends, however that ends; a stopped process ends as well.

    The parent may have ended before the call: hence the check, which must come after the kernel
    was asked, but before a watchdog that would end this process in a way of its own.
    """
    if platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    if platform != "linux":
        _start_watchdog(parent)


def _start_watchdog(parent: int) -> None:
    """Fork a process that outlives both; it is this process's child, so it sees it end."""
    watched = os.getpid()
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os.read(told, 1)  # ends as soon as the watchdog is ready, or gone
        os.close(told)
        return
    try:
        os.setsid()  # no signal to the group reaches it
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        os.close(tell)
        os.closerange(3, 1024)  # a pipe that it held open would never end
        while os.getppid() == watched:
            if not _alive(parent):
                with suppress(ProcessLookupError):
                    os.kill(watched, signal.SIGKILL)
                break
            time.sleep(_LOOK_EVERY_S)
    finally:
        os._exit(0)


def _alive(process: int) -> bool:
    """Whether there is such a process; one that ended counts until its own parent has seen it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's by now: not the emulator any more
        return False
    return True


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (a program that the emulator chose)
