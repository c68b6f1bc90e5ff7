"""Time limits inside one process: something is raised in the task once its time is up.

In the main thread the interval timer's signal interrupts the task, even one that sleeps or waits
for the network. SIGALRM reaches the main thread only, and no code in C that never returns to the
interpreter; Lambda's own timeout is then the only stop. In another thread (the emulator's
in-process environments) the exception is raised between two bytecodes, so a task that sleeps is
stopped once it wakes.

``Deadline`` is the end of the invocation, with the time that is kept back before it.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from twolane.patches.clients import Trouble, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A timer that goes off later than this, in seconds, after the time that it was set to is not ours.
_LATE_S = 0.05

#: What is raised, and when (``time.monotonic``).
Alarms = list[tuple[float, type[BaseException]]]


#: A timer takes no longer limit than this, and no invocation lasts a day.
_LONGEST_S = 86_400.0


class _Strikes(threading.local):
    def __init__(self) -> None:
        self.cell = [0]


_strikes = _Strikes()


def strikes() -> list[int]:
    """How many alarms have struck in this thread, in a cell that another thread can write to."""
    return _strikes.cell


def struck() -> int:
    """How many alarms have struck in this thread: whether one did since this was asked before."""
    return _strikes.cell[0]


def is_late(error: BaseException, since: int) -> bool:
    """True if a time limit has struck since ``struck()`` was asked, while Celery counted a chord.
    The error's class does not tell: it may be wrapped, and a header's result may raise the same.
    """
    if isinstance(error, Exception) and struck() != since:
        noted(error, Trouble.DOWN)
        return True
    return False


class HardLimitReached(BaseException):
    """The task's hard time limit has passed. Not an ``Exception``: the task shall not catch it."""


class DeadlineReached(BaseException):
    """The invocation is about to be killed; to Celery its worker is lost."""


class TaskTerminated(BaseException):
    """The task was revoked with ``terminate=True`` while it ran."""


class Interrupter(Protocol):
    """A way into the running block, for other threads."""

    def interrupt(self, error: type[BaseException]) -> None:
        """Raise ``error`` in the block, if it still runs."""


def limits(alarms: Alarms) -> Limits:
    """A context that raises each alarm's exception in its block at its time, in order.

    The list is its own from then on.
    """
    in_order = len(alarms) < 2 or (len(alarms) == 2 and alarms[0][0] <= alarms[1][0])
    pending = alarms if in_order else sorted(alarms, key=_when)
    in_main_thread = threading.get_ident() == threading.main_thread().ident
    return _Signalled(pending) if in_main_thread else _Watched(pending)


_when = itemgetter(0)


@contextmanager
def alarms_at_hand() -> Iterator[None]:
    """Put SIGALRM's handler in once for many blocks."""
    if threading.current_thread() is not threading.main_thread() or _Signalled.at_hand:
        yield
        return
    before = signal.signal(signal.SIGALRM, _Signalled.on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})  # a task may have blocked it
    _Signalled.at_hand = True
    try:
        yield
    finally:
        _Signalled.at_hand = False
        _Signalled.disarm()
        signal.signal(signal.SIGALRM, before)


class _Called:
    """Has another function called when SIGALRM comes."""

    def __init__(self, on_alarm: Callable[[], None]) -> None:
        self.on_alarm = on_alarm


@contextmanager
def alarms_call(on_alarm: Callable[[], None]) -> Iterator[None]:
    """Inside, in the main thread, ``raise_in`` ends in ``on_alarm()`` between two bytecodes."""
    if not _Signalled.at_hand:
        yield
        return
    _Signalled.running = _Signalled.between = _Called(on_alarm)
    try:
        yield
    finally:
        _Signalled.running = _Signalled.between = None


def raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise ``error`` in a thread at its next bytecode; in the main thread, have ``alarms_call``
    decide.
    """
    if thread == threading.main_thread().ident and _Signalled.at_hand:
        signal.pthread_kill(thread, signal.SIGALRM)
        return
    # https://docs.python.org/3/c-api/threads.html#c.PyThreadState_SetAsyncExc
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class Limits(Protocol):
    """A context in whose block the limits hold."""

    def __enter__(self) -> Interrupter: ...

    def __exit__(self, *error: object) -> None: ...


class _Signalled:
    """By SIGALRM, in the main thread; one block at a time. Blocks of one batch mostly have its
    deadline for their first alarm, so the timer is armed for the first one and only looked at for
    the others; a signal that comes too early for a block arms it for its own.
    """

    at_hand = False
    running: Any = None
    #: What runs where no block does.
    between: Any = None
    #: When the timer goes off, if it is armed.
    timer_at: float | None = None

    def __init__(self, pending: Alarms) -> None:
        self._pending = pending
        self._armed = False
        self._before: Any = None

    def __enter__(self) -> Interrupter:
        if not self.at_hand:
            self._before = signal.signal(signal.SIGALRM, self.on_signal)
        _Signalled.running = self
        self._armed = True
        try:
            if not self._is_armed():
                self._arm()
        except BaseException:  # its time was up before it began
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # A signal that was on its way while the block ended must not hit what comes after it.
        self._armed = False
        _Signalled.running = _Signalled.between
        if not self.at_hand:
            self.disarm()
            signal.signal(signal.SIGALRM, self._before)

    def _is_armed(self) -> bool:
        """True if the timer goes off in time for this block.

        A process has one such timer and one handler, and the block before may have used them.
        """
        if _getsignal(_SIGALRM) is not _ON_SIGNAL:
            signal.signal(signal.SIGALRM, _ON_SIGNAL)
            _Signalled.timer_at = None
        at = _Signalled.timer_at
        if at is None or not self._pending:
            return False
        left_s = _getitimer(_REAL)[0]
        if not left_s or left_s > at - time.monotonic() + _LATE_S:
            _Signalled.timer_at = None
            return False
        return at <= self._pending[0][0]

    @staticmethod
    def disarm() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _Signalled.timer_at = None

    @staticmethod
    def on_signal(*_: Any) -> None:
        _Signalled.timer_at = None
        if _Signalled.running is not None:
            _Signalled.running.on_alarm()

    def interrupt(self, error: type[BaseException]) -> None:
        self._pending.insert(0, (0.0, error))
        if self._armed:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def _arm(self) -> None:
        if not self._pending:
            return
        at, armed = self._pending[0][0], _Signalled.timer_at
        if armed is None or at < armed:
            _Signalled.timer_at = at
            left_s = min(_LONGEST_S, max(1e-6, at - time.monotonic()))
            signal.setitimer(signal.ITIMER_REAL, left_s)

    def on_alarm(self) -> None:
        if not self._armed or not self._pending:
            return
        due = self._pending[0][0] <= time.monotonic()
        error = self._pending.pop(0)[1] if due else None
        self._arm()
        if error is not None:
            _strikes.cell[0] += 1
            raise error


_ON_SIGNAL = _Signalled.on_signal
#: Without the standard module's search for an enum's member, which takes microseconds.
_getsignal: Any = import_module("_signal").getsignal
_getitimer = signal.getitimer
_SIGALRM, _REAL = int(signal.SIGALRM), int(signal.ITIMER_REAL)


class _Watched:
    """By a watching thread, in any other thread."""

    def __init__(self, pending: Alarms) -> None:
        self._pending = pending
        self._lock = threading.Lock()
        self._target, self._strikes = threading.get_ident(), strikes()
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Interrupter:
        if self._pending:
            self._watcher = threading.Thread(target=self._watch, name="twolane-limits", daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._done.set()
        if self._watcher is not None:
            self._watcher.join()

    def interrupt(self, error: type[BaseException]) -> None:
        with self._lock:
            if not self._done.is_set():
                self._strikes[0] += 1
                raise_in(self._target, error)

    def _watch(self) -> None:
        for at, error in self._pending:
            if self._done.wait(min(_LONGEST_S, max(0.0, at - time.monotonic()))):
                return
            self.interrupt(error)


class Waits(ABC):
    """How an invocation waits. A context object of this class brings its environment's own way, as
    one on virtual time must have it; with any other one it is real time.
    """

    @abstractmethod
    def monotonic(self) -> float:
        """As ``time.monotonic``."""

    @abstractmethod
    def limits(self, alarms: Alarms) -> Limits:
        """As the function ``limits``."""

    @abstractmethod
    def each(self, interval_s: float, look: Callable[[], object]) -> Callable[[], object]:
        """Call ``look`` after each interval, until what this returns is called."""


@dataclass(frozen=True)
class Deadline:
    """Instants in monotonic seconds. At ``soft`` a running task gets ``SoftTimeLimitExceeded``; at
    ``lost`` its worker counts as lost, with ``reserve_s`` left to record that and to answer the
    event source mapping. No task is started within three reserves of the end.
    """

    at: float
    reserve_s: float
    monotonic: Callable[[], float] = time.monotonic
    limits: Callable[[Alarms], Limits] = limits
    #: ``False`` on virtual time: real threads would make two runs of one test differ.
    takes_threads: bool = True

    @cached_property
    def soft(self) -> float:
        return self.at - 2 * self.reserve_s

    @cached_property
    def lost(self) -> float:
        return self.at - self.reserve_s

    @property
    def remaining_s(self) -> float:
        return self.at - self.monotonic()

    @property
    def too_late_to_start(self) -> bool:
        return self.remaining_s < 3 * self.reserve_s


def deadline_of(context: Any, monotonic: Callable[[], float] = time.monotonic) -> Deadline | None:
    """The deadline of Lambda's context object; ``None`` for a direct call without one:
    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is None:
        return None
    left_s = remaining() / 1000
    reserve_s = min(max(0.05 * left_s, 0.25), 5.0)
    if isinstance(context, Waits):
        at = context.monotonic() + left_s
        return Deadline(at, reserve_s, context.monotonic, context.limits, takes_threads=False)
    return Deadline(monotonic() + left_s, reserve_s, monotonic)
