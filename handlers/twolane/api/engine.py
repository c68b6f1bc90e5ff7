"""The part of an execution environment that outlives its requests, and serves each of them.

One event loop, driven by one thread at a time: by the handler's thread until the response is
complete and, if an extension keeps the environment awake, by the extension's thread after it; see
``awake``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from contextvars import copy_context
from typing import TYPE_CHECKING

from twolane import patches
from twolane.api import awake, inline
from twolane.api.cycle import Cycle
from twolane.api.inline import Watchdog
from twolane.api.lifespan import Lifespan, Termination
from twolane.environment import logs
from twolane.environment.invocation import deadline

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable, Mapping
    from contextvars import Context

    from mangum.types import ASGI, LambdaContext, LifespanMode, Response, Scope

    from twolane.api.awake import Awake

logger = logging.getLogger("twolane.api")

#: Of the 500 ms that Lambda gives: for work still going on, and for the lifespan's shutdown.
_WORK_GRACE_S, _SHUTDOWN_GRACE_S = 0.15, 0.3


class Engine:
    """Serves requests to ``app``, one at a time."""

    def __init__(
        self, app: ASGI, lifespan: LifespanMode, reserve_s: float, environ: Mapping[str, str]
    ) -> None:
        self._app = app
        self._reserve_s = reserve_s
        self._environ = environ
        # A loop of our own for the life of the environment, as under a server: what the lifespan
        # opens on it stays usable, whichever thread drives it.
        self._loop = asyncio.new_event_loop()
        self._turn = Turn()
        self._drive = Drive(self._loop)
        self._lifespan = Lifespan(app, lifespan, self._loop)
        self._awake: Awake | None = None
        self._watchdog = Watchdog()
        self._termination = Termination(self._terminate)
        patches.install("api", lane=inline.current)
        try:
            self._begin()
        except BaseException:
            self._loop.close()
            raise

    def _begin(self) -> None:
        # The lifespan first: an init that fails must not leave a registered extension behind.
        if not (self._lifespan.started or in_a_loop()):
            self._lifespan.start()
        if "AWS_LAMBDA_RUNTIME_API" in self._environ:
            self._termination.install()
        self._awake = awake.of(self._environ)
        if self._awake is not None:
            self._awake.between_requests(self._termination.resume)

    def respond(self, scope: Scope, body: bytes, context: LambdaContext) -> Response:
        """Run ``app`` until its response is complete, or to its end if no extension is there."""
        shared = self._awake
        hold = shared is not None and shared.holds
        with self._turn:
            if not self._lifespan.started:
                self._lifespan.start()
            if self._lifespan.active:
                scope["state"] = self._lifespan.state
            remaining_ms = getattr(context, "get_remaining_time_in_millis", _forever)
            try:
                timeout_ms = remaining_ms()
            except NotImplementedError:
                # A stand-in for a context, as tests have it, with no clock in it.
                remaining_ms, timeout_ms = _forever, _forever()
            lane = inline.Lane(
                getattr(context, "aws_request_id", ""),
                lambda: f"{scope['method']} {scope['path']}",
                lambda: remaining_ms() / 1000,
                # A function with a timeout of a second still gets most of it for its work.
                reserve_s=min(self._reserve_s, timeout_ms / 4000),
                watch=self._watchdog.watch,
            )
            cycle = Cycle(scope, body, lane=lane, stop=self._drive.stop, hold=hold)
            task = self._loop.create_task(cycle.run(self._app), context=self._context(lane))
            if shared is not None and hold:
                self._drive.until(lambda: cycle.answered)
                shared.turns.leave(lane.request_id, lambda: self._go_on(cycle, task, lane))
            else:
                self._drive.until(task.done)
                logs.flush(lane.remaining())
        if shared is None:
            self._termination.resume()
        return cycle.response

    def close(self) -> None:
        """End the lifespan, the loop and every thread but the extension's. Idempotent."""
        with self._turn:
            if self._loop.is_closed():
                return
            try:
                self._loop.run_until_complete(self._lifespan.stop())
            finally:
                self._drive.end()
                self._loop.run_until_complete(_cancel_all())
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
                self._loop.close()
                self._watchdog.stop()

    def _context(self, lane: inline.Lane) -> Context:
        """The context of one request: it ends with it, in whichever thread that is."""
        told = {"requestId": lane.request_id}
        if trace := self._environ.get("_X_AMZN_TRACE_ID"):
            told["traceId"] = trace
        context = copy_context()
        context.run(inline.current.set, lane)
        context.run(logs.correlation.set, told)
        # Where tasks are published, an enqueue has to give up in time to answer 503.
        if (left_s := lane.remaining()) < float("inf"):
            context.run(deadline.set, time.monotonic() + left_s)
        return context

    def _go_on(self, cycle: Cycle, task: Task[None], lane: inline.Lane) -> None:
        with self._turn:
            self._watchdog.watch(lane)
            cycle.release()
            self._drive.until(task.done)
            logs.flush(lane.remaining())

    def _terminate(self) -> bool:
        if self._turn.mine:
            return False
        if self._turn.acquire(_WORK_GRACE_S):
            self._shut_down(beside=False)
            # A handler of the application's own, which comes after us, may let the process live.
            self._turn.release()
        else:
            # Work after a response still has the loop: the shutdown runs beside it there.
            self._shut_down(beside=True)
        return True

    def _shut_down(self, *, beside: bool) -> None:
        stop = self._lifespan.stop()
        try:
            if beside:
                asyncio.run_coroutine_threadsafe(stop, self._loop).result(_SHUTDOWN_GRACE_S)
            else:
                self._loop.run_until_complete(asyncio.wait_for(stop, _SHUTDOWN_GRACE_S))
        except Exception as exc:  # noqa: BLE001
            logs.emit(
                logger,
                "environment.shutdown-failed",
                f"The lifespan's shutdown failed or took over {_SHUTDOWN_GRACE_S} s: {exc!r}",
                level=logging.ERROR,
                exc_info=exc,
            )


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _forever() -> float:
    return float("inf")


class Turn:
    """The right to drive the loop: a lock that knows whose it is."""

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._owner = None
        self._lock.release()

    def acquire(self, timeout_s: float) -> bool:
        """Take the turn if it is free within ``timeout_s``; ``release`` gives it back."""
        return self._lock.acquire(timeout=timeout_s)

    def release(self) -> None:
        """Give back what ``acquire`` took."""
        self._lock.release()

    @property
    def mine(self) -> bool:
        """True if this very thread has the turn, further up its stack."""
        return self._owner == threading.get_ident()


class Drive:
    """Drives ``loop`` below a task of its own that lasts as long as the environment.

    That task is what a server's is under ``asyncio.run``: the root of everything. AnyIO ties its
    worker threads to it, and so keeps them from one request to the next; with a root for each
    request, as under Mangum, every ``def`` endpoint starts a thread. And the loop is left with
    ``stop``, within the step that finishes a request: ``run_until_complete`` takes one more.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._root: Task[None] | None = None

    def stop(self) -> None:
        """Let ``until`` look whether it is over. Only from the loop."""
        self._loop.stop()

    def until(self, over: Callable[[], bool]) -> None:
        """Drive the loop until ``over()``, asked after each ``stop``."""
        while not over():
            root = self._root
            if root is None or root.done():
                last = _last(self._loop)
                try:
                    self._root = self._loop.create_task(last)
                except RuntimeError:
                    last.close()
                    raise
                _before_threads_are_joined(weakref.WeakMethod(self.end))
                root = self._root
            try:
                # With the root, and not `run_forever`: AnyIO looks for what is run so.
                self._loop.run_until_complete(root)
            except RuntimeError:
                # Also the way in which `run_until_complete` says that it was stopped, by us or by
                # the application, which under a server would bring that down.
                if self._loop.is_running() or self._loop.is_closed() or in_a_loop():
                    raise
            except asyncio.CancelledError:
                # The application has cancelled every task that it found, the root among them.
                if not root.cancelled():
                    raise

    def end(self) -> None:
        """End the root, and with it the threads that were kept for it. Idempotent."""
        root, self._root = self._root, None
        if root is None or self._loop.is_closed():
            return
        root.cancel()
        for _ in ("the root ends", "what waits for its end is called"):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()


def in_a_loop() -> bool:
    """True if this thread runs an event loop, so that no other can be run in it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _last(loop: AbstractEventLoop) -> None:
    await loop.create_future()


def _before_threads_are_joined(end: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call ``end()`` at exit, before the interpreter waits for AnyIO's threads, which end with
    their root: ``atexit`` comes after that wait. ``concurrent.futures`` uses the same hook.
    """

    def call() -> None:
        if (method := end()) is not None:
            method()

    vars(threading)["_register_atexit"](call)
