"""``leash.py PARENT_PID PROGRAM ARGUMENT…``: run a program that dies with the emulator.

A script of its own, run by an isolated interpreter: ``preexec_fn`` would fork a process that has
threads. The kernel keeps the wish across ``exec`` (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux).

    The parent may have ended before the call: hence the check.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 (a program that the emulator chose)
