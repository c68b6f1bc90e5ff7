"""A task's changes as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html

Where the platform streams (uvicorn, a container), the connection stays open until the task is
finished. Lambda behind API Gateway answers in one piece: there the stream holds what is known now
and ends, and the browser's ``EventSource`` comes again by itself after ``retry``: polling, with no
change to the client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from twolane.errors import StoreUnavailableError
from twolane.http.problems import Problem
from twolane.http.waiting import changes
from twolane.logs import emit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping
    from typing import Any

    from twolane.http.status import TaskStatus
    from twolane.http.waiting import Look

logger = logging.getLogger("twolane.http")

#: How long one stream lasts; ``EventSource`` opens the next.
STREAM_S = 300.0
RETRY_MS = 2000

#: The id of the last event; who comes back with it needs nothing more.
END_ID = "end"

HEADERS = {
    "cache-control": "no-store",
    # nginx holds a stream back unless it is told not to.
    "x-accel-buffering": "no",
}


def streams(scope: MutableMapping[str, Any]) -> bool:
    """Whether what is sent leaves at once. Mangum's scope carries Lambda's event, and buffers."""
    return "aws.event" not in scope


async def task_events(look: Look, *, streaming: bool) -> AsyncIterator[str]:
    """The text of the stream: one ``status`` event for each change, ``end`` after the last."""
    yield f"retry: {RETRY_MS}\n\n"
    try:
        async for status in changes(look, STREAM_S if streaming else 0.0):
            yield _event("status", status)
            if status.finished:
                yield f"id: {END_ID}\n{_event('end', status)}"
    except (Problem, StoreUnavailableError) as exc:
        # The status line is long gone: the client learns it when it comes again.
        emit(logger, "log", f"A stream of task events ends early: {exc}", level=logging.WARNING)


def _event(name: str, status: TaskStatus) -> str:
    # The JSON is one line: line breaks in it are escaped.
    return f"event: {name}\ndata: {status.model_dump_json()}\n\n"
