"""Where Starlette's and FastAPI's background tasks enter the inline lane.

Starlette awaits ``response.background()`` inside of the ASGI call and offers no hook around it, so
the two ``__call__`` methods are wrapped, once. Outside of a request of ours, under uvicorn in the
same process for one, there is no lane and they behave as before.
https://github.com/Kludex/starlette/blob/main/starlette/background.py
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextvars import ContextVar

    Call = Callable[[Any], Awaitable[None]]

_MARK = "__twolane__"


def install(current: ContextVar[Any]) -> bool:
    """Wrap Starlette's classes if they are in this process. Idempotent.

    ``current``: the lane of the request that the running asyncio task serves.
    """
    # Looked up, never imported: an application without Starlette has no such tasks.
    module = sys.modules.get("starlette.background")
    if module is None:
        return False
    if not hasattr(module.BackgroundTask.__call__, _MARK):
        module.BackgroundTask.__call__ = _one(module.BackgroundTask.__call__, current)
        module.BackgroundTasks.__call__ = _several(module.BackgroundTasks.__call__, current)
    return True


def _one(original: Call, current: ContextVar[Any]) -> Call:
    @functools.wraps(original)
    async def call(self: Any) -> None:
        lane = current.get()
        if lane is None:
            await original(self)
        else:
            await lane.run(self, original)

    setattr(call, _MARK, True)
    return call


def _several(original: Call, current: ContextVar[Any]) -> Call:
    @functools.wraps(original)
    async def call(self: Any) -> None:
        lane = current.get()
        if lane is not None:
            lane.enrol(list(_leaves(self)))
        await original(self)

    setattr(call, _MARK, True)
    return call


def _leaves(tasks: Any) -> Iterator[Any]:
    """``BackgroundTasks`` may hold others of its kind."""
    for task in tasks.tasks:
        if hasattr(task, "tasks"):
            yield from _leaves(task)
        else:
            yield task
