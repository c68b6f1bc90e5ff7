"""The application's lifespan: started once for an execution environment, ended on SIGTERM.

Mangum runs startup and shutdown on every invocation (https://github.com/Kludex/mangum/issues/342),
so a pool of connections is built and thrown away for each request.

Lambda sends SIGTERM to the runtime of an environment that it ends if an extension is registered, an
internal one included, and gives it 500 ms then:
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

from mangum.exceptions import LifespanFailure, LifespanUnsupported
from mangum.protocols.lifespan import LifespanCycle, LifespanCycleState

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable

    from mangum.types import ASGI, LifespanMode


class Lifespan:
    """Mangum's lifespan protocol, with startup and shutdown each at most once."""

    def __init__(self, app: ASGI, mode: LifespanMode, loop: AbstractEventLoop) -> None:
        self._app = app
        self._mode = mode
        self._loop = loop
        self._cycle: LifespanCycle | None = None
        self._task: Task[None] | None = None
        self.started = mode == "off"

    @property
    def state(self) -> dict[str, Any]:
        """A shallow copy for one request, as the ASGI specification asks for:
        https://asgi.readthedocs.io/en/latest/specs/lifespan.html#lifespan-state
        """
        return {} if self._cycle is None else self._cycle.lifespan_state.copy()

    @property
    def active(self) -> bool:
        """True if there is a state for requests to share."""
        return self._cycle is not None

    def start(self) -> None:
        """Run startup. Raises ``LifespanFailure`` with the application's own message."""
        self._loop.run_until_complete(self._start())
        self.started = True

    async def _start(self) -> None:
        self._cycle = _Cycle(self._app, self._mode)
        self._task = self._loop.create_task(self._cycle.run())
        await self._cycle.startup()
        # Mangum goes on when the application raises in "on" mode; uvicorn exits, and so do we.
        if self._mode == "on" and self._task.done():
            raise LifespanFailure(
                "The application left its lifespan during startup and lifespan is 'on'."
            ) from self._cycle.exception

    async def stop(self) -> None:
        """Run shutdown, once, on the loop. Raises ``LifespanFailure``."""
        cycle, task = self._cycle, self._task
        self._cycle = self._task = None
        self.started = self._mode == "off"
        if cycle is None or task is None or task.done():
            return
        if cycle.state is not LifespanCycleState.UNSUPPORTED:
            await cycle.shutdown()
        await task


class _Cycle(LifespanCycle):
    """Mangum's, which says of an application without lifespan, as Django's is, that it has none."""

    def __init__(self, app: ASGI, mode: LifespanMode) -> None:
        async def supported(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                # It has not even asked for the first event: what it raises means "not supported".
                # https://asgi.readthedocs.io/en/latest/specs/lifespan.html
                if mode == "auto" and self.state is LifespanCycleState.CONNECTING:
                    raise LifespanUnsupported from error
                raise

        super().__init__(supported, mode)


class Termination:
    """Calls ``close`` on SIGTERM, then lets the signal do what it did before. ``close`` returns
    ``False`` within a request of this thread; after it, ``resume`` is called.
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
