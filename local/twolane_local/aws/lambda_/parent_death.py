"""``parent_death.py PARENT_PID PROGRAM ARGUMENT…`` runs a program that ends with the emulator.

It is a script, run by an isolated interpreter, because ``preexec_fn`` would fork a process that has
threads. Both mechanisms survive ``exec``: the kernel's (prctl(2), PR_SET_PDEATHSIG) on Linux, a
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
    """End this process when its parent ends for any reason; a stopped process ends as well."""
    if platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    # The parent may have ended before the call. The check comes after prctl, so that no end is
    # missed, and before the watchdog, which must not start for a parent that is gone.
    if os.getppid() != parent:
        os._exit(1)
    if platform != "linux":
        _start_watchdog(parent)


def _start_watchdog(parent: int) -> None:
    """Fork a process that kills this one when the parent has ended.

    The watchdog is a child of this process, so it notices when this process ends.
    """
    watched = os.getpid()
    ready, write_ready = os.pipe()
    if os.fork():
        os.close(write_ready)
        os.read(ready, 1)  # returns when the watchdog is ready or gone
        os.close(ready)
        return
    try:
        os.setsid()  # signals to the group do not reach it
        devnull = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(devnull, descriptor)
        os.close(write_ready)
        os.closerange(3, 1024)  # a pipe that the watchdog held open would never end
        while os.getppid() == watched:
            if not _exists(parent):
                with suppress(ProcessLookupError):
                    os.kill(watched, signal.SIGKILL)
                break
            time.sleep(_LOOK_EVERY_S)
    finally:
        os._exit(0)


def _exists(process: int) -> bool:
    """True until the process has ended and its own parent has reaped it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the id belongs to another user's process now
        return False
    return True


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (a program that the emulator chose)
