"""SIGTERM: the execution environment ends, and the application's lifespan with it.

Lambda sends SIGTERM to the runtime of an environment that it ends if an extension is registered,
an internal one included, and gives it 500 ms then:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
Python runs the handler only while the main thread runs Python code: ``awslambdaric`` polls from a
second thread for that reason, from Python 3.12 on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Termination:
    """Calls ``close`` on SIGTERM, then lets the signal do what it did before.

    ``close`` returns ``False`` while it cannot be done: the signal came in the middle of a request,
    in the thread that serves it. ``resume`` is then called after that request.
    """

    def __init__(self, close: Callable[[], bool]) -> None:
        self._close = close
        self._previous: Any = signal.SIG_DFL
        self._pending = False

    def install(self) -> bool:
        """Take SIGTERM over; ``False`` outside of the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._previous = signal.signal(signal.SIGTERM, self._handle)
        return True

    def resume(self) -> None:
        """Between two requests: do now what a signal asked for during the last one."""
        if self._pending:
            self._handle(signal.SIGTERM, None)

    def _handle(self, number: int, frame: Any) -> None:
        self._pending = not self._close()
        if self._pending:
            return
        if callable(self._previous):
            self._previous(number, frame)
            return
        sys.stdout.flush()
        sys.stderr.flush()
        # The signal again and not sys.exit: that would wait for the runtime's polling thread,
        # which is blocked in a call that does not return.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
