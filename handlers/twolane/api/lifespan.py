"""The application's lifespan: started once for an execution environment, in its init.

Mangum runs startup and shutdown on every invocation (https://github.com/Kludex/mangum/issues/342),
so a pool of connections is built and thrown away for each request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mangum.exceptions import LifespanFailure
from mangum.protocols.lifespan import LifespanCycle, LifespanCycleState

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

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
        """A shallow copy for one request, as the ASGI specification asks for.

        https://asgi.readthedocs.io/en/latest/specs/lifespan.html#lifespan-state
        """
        return {} if self._cycle is None else self._cycle.lifespan_state.copy()

    @property
    def active(self) -> bool:
        """Whether there is a state for requests to share."""
        return self._cycle is not None

    def start(self) -> None:
        """Run startup. Raises ``LifespanFailure`` with the application's own message."""
        self._loop.run_until_complete(self._start())
        self.started = True

    async def _start(self) -> None:
        self._cycle = LifespanCycle(self._app, self._mode)
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
