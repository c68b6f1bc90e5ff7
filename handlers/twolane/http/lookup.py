"""Find a task for a request: in the result backend, if the request may know of it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from twolane.errors import StoreUnavailableError
from twolane.http.problems import Problem
from twolane.http.status import TaskStatus, from_meta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

#: Says whether this request may see and revoke this task.
Authorize = Callable[[Request, TaskStatus], bool | Awaitable[bool]]


class Tasks:
    """The tasks of one application, as far as HTTP may know them."""

    def __init__(
        self,
        celery: Celery,
        visible: Iterable[str] | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        self._celery = celery
        self._visible = None if visible is None else frozenset(visible)
        self._authorize = authorize

    async def look(self, request: Request, task_id: str) -> TaskStatus:
        """The task as it stands. 404 hides what is not there and what is not this request's alike.

        Whether it may be seen is asked at each look: its name may become known meanwhile.
        """
        if is_uuid(task_id):
            status = await run_in_threadpool(self._status, task_id)
            if self._may_be_seen(status) and await self._allowed(request, status):
                return status
        raise Problem(404, "No such task.")

    def _status(self, task_id: str) -> TaskStatus:
        backend = self._celery.backend
        try:
            return from_meta(task_id, backend.get_task_meta(task_id, cache=False))
        except Exception as exc:
            if not _is_outage(exc, backend):
                raise
            raise StoreUnavailableError(
                f"The result backend did not answer for task {task_id}: {exc}"
            ) from exc

    def _may_be_seen(self, status: TaskStatus) -> bool:
        """Of a task that is not known by name yet there is nothing to see but that it waits."""
        if status.name is None:
            return True
        if self._visible is not None:
            return status.name in self._visible
        return status.name in self._celery.tasks and not status.name.startswith("celery.")

    async def _allowed(self, request: Request, status: TaskStatus) -> bool:
        if self._authorize is None:
            return True
        verdict = self._authorize(request, status)
        return verdict if isinstance(verdict, bool) else await verdict


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID in the one form in which Celery writes it."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_outage(exc: Exception, backend: Any) -> bool:
    """Whether the backend was out of reach, in the words of whichever client library it uses."""
    connection_errors = tuple(getattr(backend, "connection_errors", ()))
    if isinstance(exc, (OSError, *connection_errors)):
        return True
    return type(exc).__module__.partition(".")[0] in {"redis", "botocore"}
