"""Time limits inside one process: something is raised in the task once its time is up.

In the main thread the interval timer's signal interrupts the task, even one that sleeps or waits
for the network. SIGALRM reaches the main thread only, and no code in C that never returns to the
interpreter; Lambda's own timeout is then the only stop. In another thread (the emulator's
in-process environments) the exception is raised between two bytecodes, so a task that sleeps is
stopped once it wakes.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What is raised, and when (``time.monotonic``).
Alarms = list[tuple[float, type[BaseException]]]


class HardLimitReached(BaseException):
    """The task's hard time limit has passed. No Exception: the task shall not catch it."""


class DeadlineReached(BaseException):
    """The invocation is about to be killed; to Celery its worker is lost."""


class TaskTerminated(BaseException):
    """The task was revoked with ``terminate=True`` while it ran."""


@contextmanager
def limits(alarms: Alarms) -> Iterator[None]:
    """Raise each alarm's exception in the block at its time, in order."""
    if not alarms:
        yield
        return
    pending = sorted(alarms, key=lambda alarm: alarm[0])
    if threading.current_thread() is threading.main_thread():
        with _signalled(pending):
            yield
    else:
        with _watched(pending):
            yield


@contextmanager
def _signalled(pending: Alarms) -> Iterator[None]:
    armed = True

    def arm() -> None:
        if pending:
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, pending[0][0] - time.monotonic()))

    def on_alarm(*_ignored: Any) -> None:
        # A signal that was on its way while the block ended must not hit what comes after it.
        if armed and pending:
            error = pending.pop(0)[1]
            arm()
            raise error

    before = signal.signal(signal.SIGALRM, on_alarm)
    arm()
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _watched(pending: Alarms) -> Iterator[None]:
    lock = threading.Lock()
    target = threading.get_ident()
    done = threading.Event()

    def watch() -> None:
        for at, error in pending:
            if done.wait(max(0.0, at - time.monotonic())):
                return
            with lock:
                if not done.is_set():
                    interrupt(target, error)

    watcher = threading.Thread(target=watch, name="twolane-limits", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with lock:
            done.set()
        watcher.join()


def interrupt(thread_id: int, error: type[BaseException]) -> None:
    """Raise ``error`` in a thread, at its next bytecode.

    https://docs.python.org/3/c-api/threads.html#c.PyThreadState_SetAsyncExc
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))
