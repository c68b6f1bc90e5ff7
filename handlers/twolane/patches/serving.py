"""Two patches of a server's side: Starlette's background tasks, and the post of a response.

Starlette awaits ``response.background()`` inside of the ASGI call and offers no hook around it, so
the two ``__call__`` methods are wrapped, once: background tasks enter the inline lane. Outside of a
request of ours, under uvicorn in the same process for example, there is no lane and they behave as
before. Everywhere an ``async def`` task of Celery's is awaited.
https://github.com/Kludex/starlette/blob/main/starlette/background.py

A response has left when ``awslambdaric`` has posted it to the Runtime API. The handler's own
``return`` is too early: the runtime still has to serialise and post the response, which takes tens
of milliseconds for some megabytes, and work that starts meanwhile competes with it for the one
vCPU. ``post_invocation_result`` and ``post_invocation_error`` of the runtime client return when the
Runtime API has taken the whole body, so these are wrapped.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-response
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any

from twolane.patches import replace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextvars import ContextVar

    Call = Callable[[Any], Awaitable[None]]

_MARK = "__twolane__"


def enter_lanes(current: ContextVar[Any]) -> bool:
    """Wrap Starlette's classes if they are here; ``current``: the request's lane. Idempotent."""
    # Looked up, never imported: an application without Starlette has no such tasks.
    module = sys.modules.get("starlette.background")
    if module is None:
        return False
    if not hasattr(module.BackgroundTask.__call__, _MARK):
        for kind, wrapped in ((module.BackgroundTask, _one), (module.BackgroundTasks, _several)):
            replace(kind, "__call__", wrapped(vars(kind)["__call__"], current))
    return True


def _one(original: Call, current: ContextVar[Any]) -> Call:
    @functools.wraps(original)
    async def call(self: Any) -> None:
        if not self.is_async and _is_coroutine_task(self.func):
            self.is_async = True
        lane = current.get()
        if lane is None:
            await original(self)
        else:
            await lane.run(self, original)

    setattr(call, _MARK, True)
    return call


def _is_coroutine_task(work: Any) -> bool:
    """True for an ``async def`` task of Celery's. It is no coroutine function itself: Starlette
    would call it in a thread, and leave its coroutine there.
    """
    return hasattr(work, "apply_async") and inspect.iscoroutinefunction(work.run)


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


_MODULE = "awslambdaric.lambda_runtime_client"
#: The base class since 4.0; older runtimes have the second one only.
_CLASSES = ("BaseLambdaRuntimeClient", "LambdaRuntimeClient")
_METHODS = ("post_invocation_result", "post_invocation_error")


def listen(posted: Callable[[str], None]) -> bool:
    """Call ``posted(request id)`` after the runtime has posted a response or an error. ``False``
    without such a client here: the caller then has to finish its work before it returns.
    """
    # Looked up, never imported: without the runtime in the process there is nothing to hear.
    module = sys.modules.get(_MODULE)
    client = next((c for name in _CLASSES if (c := getattr(module, name, None))), None)
    if client is None or not all(callable(getattr(client, name, None)) for name in _METHODS):
        return False
    for name in _METHODS:
        replace(client, name, _telling(getattr(client, name), posted))
    return True


def _telling(post: Callable[..., Any], posted: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(post)
    def post_then_tell(self: Any, invoke_id: str, *args: Any, **kwargs: Any) -> Any:
        # Also when posting fails: an extension that never heard of the end would hold the
        # environment until the function's timeout.
        try:
            return post(self, invoke_id, *args, **kwargs)
        finally:
            posted(invoke_id)

    return post_then_tell
