"""The inline lane of one request: its background tasks, and the end of those that are left over.

A task that has started runs to its end. One that has not started when the invocation's reserve is
reached never will: it goes onto its queue if its callable is a Celery task, else it is logged as
lost, by name. The lane decides that under a lock, for each task exactly once, because the loop's
thread starts tasks while the watchdog's thread gives up on them.

The watchdog is a thread and not a timer on the loop, because work that blocks the loop most needs
to be watched. It wakes twice in an invocation: when the reserve is reached, and shortly before the
kill.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from twolane.environment.logs import emit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextvars import Context


logger = logging.getLogger("twolane.api")

#: The lane of the request that the current asyncio task serves.
current: ContextVar[Lane | None] = ContextVar("twolane_inline_lane", default=None)


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    OVER = auto()
    GIVEN_UP = auto()


@dataclass(slots=True, eq=False)
class _Entry:
    work: Work
    state: _State = _State.WAITING
    since: float = 0.0

    @property
    def name(self) -> str:
        return name_of(self.work.func)


class Lane:
    """The background tasks of one request. Made for every request, so it has to be cheap.

    ``remaining`` gives the seconds until the function's timeout; ``reserve_s`` of them are kept
    for giving up in order. ``watch`` is called when there is something to watch over, ``label``
    when a line needs it.
    """

    __slots__ = (
        "_context", "_entries", "_lock", "_told", "_watch", "ended", "label", "remaining",
        "request_id", "reserve_s",
    )  # fmt: skip

    def __init__(
        self,
        request_id: str,
        label: Callable[[], str],
        remaining: Callable[[], float],
        *,
        reserve_s: float,
        watch: Callable[[Lane], None],
    ) -> None:
        self.request_id = request_id
        self.label = label
        self.remaining = remaining
        self.reserve_s = reserve_s
        self.ended = False
        self._watch = watch
        self._entries: dict[int, _Entry] = {}
        self._lock = threading.Lock()
        self._told: list[BaseException] = []
        self._context: Context | None = None

    def enrol(self, work: Iterable[Work]) -> None:
        """Take note of tasks before the first one starts."""
        with self._lock:
            for one in work:
                self._entries.setdefault(id(one), _Entry(one))
        if self._context is None:
            self._context = copy_context()
        self._watch(self)

    async def run(self, work: Work, call: Callable[[Any], Awaitable[None]]) -> None:
        """Run one task, unless its time is over; raises what the task raises."""
        if id(work) not in self._entries:
            self.enrol([work])
        entry = self._entries[id(work)]
        if self.remaining() <= self.reserve_s:
            self.close()
        with self._lock:
            if entry.state is _State.GIVEN_UP:
                return
            entry.state, entry.since = _State.RUNNING, time.monotonic()
        self._tell("inline.started", f"→ {entry.name}", entry)
        try:
            await call(work)
        except BaseException as exc:
            self._told.append(exc)
            self._tell(
                "inline.failed",
                f"! {entry.name} failed after the response and is not run again: {exc!r}",
                entry,
                level=logging.ERROR,
                exc_info=exc,
                durationMs=_since_ms(entry),
            )
            raise
        else:
            self._tell("inline.succeeded", f"← {entry.name}", entry, durationMs=_since_ms(entry))
        finally:
            entry.state = _State.OVER

    def close(self) -> None:
        """The reserve is reached: give up on every task that has not started. Idempotent."""
        left_ms = round(self.remaining() * 1000)
        for entry in self._give_up():
            publish = publisher_of(entry.work)
            if publish is None:
                why = f"it had not started {left_ms} ms before the function's timeout"
                self._lose(entry, f"{why}. Make it a Celery task, and it is deferred instead.")
            else:
                self._defer(entry, publish, left_ms)

    def last_words(self) -> None:
        """The timeout is about to kill what still runs: say so while there is time to."""
        with self._lock:
            running = [entry for entry in self._entries.values() if entry.state is _State.RUNNING]
        left_ms = round(self.remaining() * 1000)
        reason = f"is still running {left_ms} ms before the function's timeout, which kills it"
        for entry in running:
            self._tell(
                "inline.lost",
                f"! {entry.name} {reason}. Make it a Celery task, or raise Timeout.",
                entry,
                level=logging.ERROR,
                reason="timeout",
                durationMs=_since_ms(entry),
            )
        if not running and not self.ended:
            self._tell(
                "inline.lost",
                f"! The work after the response of {self.label()} {reason}.",
                level=logging.ERROR,
                reason="timeout",
            )

    def has_told(self, exc: BaseException) -> bool:
        """Return whether it is, or holds, the exception of a task of this lane."""
        return any(_contains(exc, told) for told in self._told)

    def end(self) -> None:
        """The ASGI call is over, and what has not started is not going to: after an exception in an
        earlier task of the same response Starlette stops, under every server, and what follows is
        not deferred either, so that the order of effects is the same everywhere.
        """
        self.ended = True
        for entry in self._give_up() if self._entries else ():
            self._lose(entry, "an earlier task of the same response failed. Add it on its own.")

    def _give_up(self) -> list[_Entry]:
        """Every task that has not started; none of them will."""
        with self._lock:
            waiting = [entry for entry in self._entries.values() if entry.state is _State.WAITING]
            for entry in waiting:
                entry.state = _State.GIVEN_UP
        return waiting

    def _defer(self, entry: _Entry, publish: Callable[[], str], left_ms: int) -> None:
        # In the request's own context, also from the watchdog's thread: the message carries the
        # request's id, and the enqueue knows when to give up.
        context = self._context or copy_context()
        try:
            task_id = context.copy().run(publish)
        except Exception as exc:  # noqa: BLE001
            self._lose(entry, f"it could not be enqueued: {exc!r}", exc)
        else:
            self._tell(
                "inline.deferred",
                f"↻ {entry.name} had not started {left_ms} ms before the function's timeout; it is "
                "on its queue now",
                entry,
                level=logging.WARNING,
                taskId=task_id,
            )

    def _lose(self, entry: _Entry, why: str, exc: BaseException | None = None) -> None:
        self._tell(
            "inline.lost",
            f"! {entry.name} is lost: {why}",
            entry,
            level=logging.ERROR,
            exc_info=exc,
            reason="not started",
        )

    def _tell(self, event: str, message: str, entry: _Entry | None = None, **fields: Any) -> None:
        if entry is not None:
            fields["taskName"] = entry.name
        emit(logger, event, message, requestId=self.request_id, **fields)


def _since_ms(entry: _Entry) -> float:
    return round((time.monotonic() - entry.since) * 1000, 1)


def _contains(exc: BaseException, told: BaseException) -> bool:
    if exc is told:
        return True
    return isinstance(exc, BaseExceptionGroup) and any(
        _contains(inner, told) for inner in exc.exceptions
    )


class Work(Protocol):
    """A Starlette ``BackgroundTask``, as far as it matters here."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def name_of(func: Any) -> str:
    """The name that a reader of the log finds in the source: Celery's, or the dotted path."""
    if isinstance(func, functools.partial):
        return name_of(func.func)
    if _is_task(func):
        return str(func.name)
    kind = func if hasattr(func, "__qualname__") else type(func)
    return f"{kind.__module__}.{kind.__qualname__}"


def publisher_of(work: Work) -> Callable[[], str] | None:
    """A call that puts ``work`` on its queue and returns the task's id; ``None`` without a queue.
    A ``task.delay`` or ``apply_async``, which only publishes, goes with its arguments as well.
    """
    func: Any = work.func
    args, kwargs = work.args, work.kwargs
    while isinstance(func, functools.partial):
        func, args, kwargs = func.func, (*func.args, *args), {**func.keywords, **kwargs}
    if _is_task(func):
        return lambda: str(func.apply_async(args, kwargs).id)
    owner = getattr(func, "__self__", None)
    if _is_task(owner) and getattr(func, "__name__", "") in {"delay", "apply_async"}:
        return lambda: str(func(*args, **kwargs).id)
    return None


def _is_task(value: Any) -> bool:
    # Looked up, never imported: where nothing has imported Celery, nothing is a task.
    celery = sys.modules.get("celery.app.task")
    return celery is not None and isinstance(value, celery.Task)


#: Enough to write a log line in before Lambda kills the process.
LAST_WORDS_S = 0.2


class Watchdog:
    """Watches one lane at a time, which is all that an execution environment has."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lane: Lane | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def watch(self, lane: Lane) -> None:
        """Watch over ``lane`` until it has ended. Starts the thread when first needed."""
        if lane.remaining() == float("inf"):
            return
        with self._changed:
            if self._lane is lane:
                return
            self._lane = lane
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="twolane-watchdog", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lane is not None or self._stopped)
                lane, stopped = self._lane, self._stopped
            if stopped or lane is None:
                return
            if self._reached(lane, lane.reserve_s):
                lane.close()
                if self._reached(lane, LAST_WORDS_S):
                    lane.last_words()
            with self._changed:
                if self._lane is lane:
                    self._lane = None

    def _reached(self, lane: Lane, left_s: float) -> bool:
        """Wait until ``left_s`` seconds remain; ``False`` if the lane ended or changed first."""
        over: Callable[[], bool] = lambda: lane.ended or self._lane is not lane or self._stopped  # noqa: E731
        with self._changed:
            while not over():
                wait_s = lane.remaining() - left_s
                if wait_s <= 0:
                    return True
                self._changed.wait(wait_s)
        return False
