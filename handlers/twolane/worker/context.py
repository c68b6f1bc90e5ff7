"""The context of a running task, made for less than Celery's own.

Celery's ``Context`` finds a message's own headers by taking away all that it knows by itself, and
puts the names of what it knows together anew for each task: a tenth of what a no-op task costs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery.app import trace
from celery.app.task import Context

from twolane.publish import times

if TYPE_CHECKING:
    from collections.abc import Mapping

_Stock: Any = Context

#: What Celery's own method takes away (celery 5.7).
_KNOWN = frozenset(vars(Context)) | {
    "lang", "task", "argsrepr", "kwargsrepr", "compression",
}  # fmt: skip


class TaskContext(_Stock):  # type: ignore[misc]
    """``task.request`` in a worker. It knows when the task was started."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        setattr(self, times.STARTED, time.time())

    def _get_custom_headers(self, request: Mapping[str, Any], **more: Any) -> dict[str, Any] | None:
        if _KNOWN.issuperset(request) and _KNOWN.issuperset(more):
            return None
        return {key: value for key, value in {**request, **more}.items() if key not in _KNOWN}


def install() -> None:
    """Let Celery's tracer make ours. Idempotent."""
    tracing: Any = trace
    tracing.Context = TaskContext
    times.uninstall()
