"""What a background task's callable is called, and whether a queue can take it."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """What puts ``work`` on its queue and returns the task's id; ``None`` if no queue takes it.

    A Celery task goes with its arguments. So does a call of ``task.delay`` or ``apply_async``,
    which was only ever going to publish.
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
