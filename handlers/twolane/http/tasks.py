"""A task as an HTTP resource: Celery's result, in one shape, if the request may see it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery import states
from fastapi import Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from twolane.errors import StoreUnavailableError
from twolane.http.problems import Problem
from twolane.publish.message import times_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celery import Celery

#: Celery's own words, and what an application adds with ``update_state``.
_STARTED = frozenset({states.STARTED, states.RETRY, *states.READY_STATES}) - {states.REVOKED}


class TaskProblem(BaseModel):
    """Why a task failed, in the members of a problem document."""

    type: str = "about:blank"
    title: str = Field(description="The exception's class.", examples=["ConnectionError"])
    detail: str = Field(description="The exception's message.")


class TaskStatus(BaseModel):
    """One task, as it stands."""

    id: str
    name: str | None = Field(None, description="Known once a worker has the task.")
    state: str = Field(
        description="PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the task's "
        "own. PENDING is also what an id looks like that nobody ever enqueued, or whose result has "
        "expired: a result backend holds results, not queues."
    )
    progress: Any = Field(None, description="What the running task reported last.")
    result: Any = Field(None, description="The return value, once the state is SUCCESS.")
    error: TaskProblem | None = Field(None, description="Set for FAILURE, RETRY and REVOKED.")
    attempts: int = Field(0, description="How often the task was started; 0 while it waits.")
    published_at: str | None = Field(None, description="ISO 8601, once a worker has the task.")
    started_at: str | None = Field(None, description="ISO 8601, of the last attempt.")
    finished_at: str | None = Field(None, description="ISO 8601, once the task is finished.")

    @property
    def finished(self) -> bool:
        """True if no later state will follow."""
        return self.state in states.READY_STATES


def from_meta(task_id: str, meta: Mapping[str, Any]) -> TaskStatus:
    """The resource of a result's meta data, as ``backend.get_task_meta`` returns it."""
    state = str(meta.get("status") or states.PENDING)
    value = meta.get("result")
    done = meta.get("date_done")
    own_state = state not in states.ALL_STATES
    return TaskStatus(
        id=task_id,
        name=meta.get("name"),
        state=state,
        # STARTED carries the worker's host and process: nobody's business outside.
        progress=value if own_state else None,
        result=value if state == states.SUCCESS else None,
        error=_problem(value) if state in states.EXCEPTION_STATES else None,
        attempts=_attempts(state, meta, own_state=own_state),
        finished_at=done.isoformat() if isinstance(done, datetime) else done,
        **times_of(meta),
    )


def _attempts(state: str, meta: Mapping[str, Any], *, own_state: bool) -> int:
    """``retries`` stands in the meta data with ``result_extended``; one more is the attempt."""
    if not own_state and state not in _STARTED:
        return 0
    return int(meta.get("retries") or 0) + 1


def _problem(value: object) -> TaskProblem:
    if isinstance(value, BaseException):
        return TaskProblem(title=type(value).__name__, detail=str(value))
    return TaskProblem(title="Error", detail=str(value))


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
    """True for a UUID in the one form in which Celery writes it."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_outage(exc: Exception, backend: Any) -> bool:
    """True if the backend was out of reach, in the words of the client library that it uses."""
    connection_errors = tuple(getattr(backend, "connection_errors", ()))
    if isinstance(exc, (OSError, *connection_errors)):
        return True
    return type(exc).__module__.partition(".")[0] in {"redis", "botocore"}
