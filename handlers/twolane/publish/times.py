"""When a task was published and last started, beside its result.

Celery stores when a task was done, and nothing before. Both times ride where Celery leaves room:
the first as a header of the message, the second on the running task's request; and whichever state
is stored then carries them, for ``GET /tasks/{id}`` to show. Other readers of results ignore them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import signals

if TYPE_CHECKING:
    from collections.abc import Mapping

_UID = "twolane.times"

PUBLISHED_AT = "twolane_published_at"
_STARTED_AT = "twolane_started_at"

#: Where a running task's request has its start, in seconds since the epoch. Most tasks store one
#: state and many none, so it becomes text only when a state is stored.
STARTED = "_twolane_started"


def stamp(now: float) -> str:
    """``now``, in seconds since the epoch, as ISO 8601 in UTC to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


def times_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """What a stored result knows of its times: ``published_at``, ``started_at``."""
    found = {"published_at": meta.get(PUBLISHED_AT), "started_at": meta.get(_STARTED_AT)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def extend(backend: Any) -> Any:
    """Make a backend store the times with every state of a task."""
    stock = backend._get_result_meta  # noqa: SLF001 - where Celery makes what it stores

    def with_times(
        result: Any, state: str, traceback: Any, request: Any, **options: Any
    ) -> dict[str, Any]:
        meta: dict[str, Any] = stock(result, state, traceback, request, **options)
        published, started = getattr(request, PUBLISHED_AT, None), getattr(request, STARTED, None)
        if isinstance(published, str):
            meta[PUBLISHED_AT] = published
        if isinstance(started, float):
            meta[_STARTED_AT] = stamp(started)
        return meta

    backend._get_result_meta = with_times  # noqa: SLF001
    return backend


def _before_run(task: Any = None, **_: Any) -> None:
    setattr(task.request, STARTED, time.time())


def install() -> None:
    """Note when each task of this process starts."""
    signals.task_prerun.connect(_before_run, weak=False, dispatch_uid=_UID)


def uninstall() -> None:
    """The worker's own requests know their start, without a signal for each."""
    signals.task_prerun.disconnect(dispatch_uid=_UID)
