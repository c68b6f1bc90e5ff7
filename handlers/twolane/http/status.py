"""A task as an HTTP resource: what Celery's result backend knows, in one shape."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from celery import states
from pydantic import BaseModel, Field

from twolane.publish.times import times_of

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        """Whether no later state will follow."""
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
