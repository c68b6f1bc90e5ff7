"""Tasks over HTTP: ``app.include_router(tasks_router(celery))``."""

# Annotations are evaluated here: FastAPI reads them, and some name what is local to the router.

import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from celery import states
from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from twolane.errors import StoreUnavailableError
from twolane.http.problems import MEDIA_TYPE, Problem
from twolane.http.status import TaskStatus, from_meta

if TYPE_CHECKING:
    from celery import Celery

#: Says whether this request may see and revoke this task.
Authorize = Callable[[Request, TaskStatus], bool | Awaitable[bool]]

#: Seconds that a client should wait between two looks at an unfinished task.
POLL_S = 1

_PROBLEM: dict[str, Any] = {"content": {MEDIA_TYPE: {}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such task, or none of yours", **_PROBLEM},
    503: {"description": "The result store did not answer", **_PROBLEM},
}


def tasks_router(
    celery: "Celery",
    *,
    visible: Iterable[str] | None = None,
    authorize: Authorize | None = None,
    prefix: str = "/tasks",
) -> APIRouter:
    """``GET`` and ``DELETE {prefix}/{id}`` for the tasks of ``celery``.

    ``visible``: the names of the tasks that HTTP may know; by default the application's own, not
    Celery's built-in ones. ``authorize(request, task)`` may refuse a request: the answer is then
    the same 404 as for a task that is not there. Ids are Celery's, random UUIDs (122 bits); an id
    of another form is 404 without a look at the store.

    An unfinished task is answered with ``Retry-After``. A waiting task, an unknown id and an
    expired result are all ``PENDING``, as everywhere in Celery:
    https://docs.celeryq.dev/en/stable/userguide/tasks.html#pending
    """
    router = APIRouter(prefix=prefix, tags=["tasks"])
    names = None if visible is None else frozenset(visible)

    async def known(
        request: Request,
        task_id: Annotated[str, Path(alias="id", description="The task's id.")],
    ) -> TaskStatus:
        if not _is_uuid(task_id):
            raise Problem(404, "No such task.")
        status = await run_in_threadpool(_look_up, celery, task_id)
        if not _may_be_seen(celery, status, names) or not await _allowed(
            authorize, request, status
        ):
            raise Problem(404, "No such task.")
        return status

    @router.get("/{id}", response_model=TaskStatus, responses=_RESPONSES)
    async def read_task(
        status: Annotated[TaskStatus, Depends(known)], response: Response
    ) -> TaskStatus:
        """How a task stands: its state, progress, attempts, and result or error."""
        response.headers["cache-control"] = "no-store"
        if not status.finished:
            response.headers["retry-after"] = str(POLL_S)
        return status

    @router.delete(
        "/{id}",
        status_code=202,
        response_model=TaskStatus,
        responses={**_RESPONSES, 409: {"description": "Already finished", **_PROBLEM}},
    )
    async def revoke_task(status: Annotated[TaskStatus, Depends(known)]) -> TaskStatus:
        """Revoke a task: it will not start. One that has started runs on."""
        if status.finished and status.state != states.REVOKED:
            raise Problem(
                409, f"The task is already finished ({status.state}).", state=status.state
            )
        if not status.finished:
            await run_in_threadpool(celery.control.revoke, status.id)
        return status

    return router


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _look_up(celery: "Celery", task_id: str) -> TaskStatus:
    backend = celery.backend
    try:
        return from_meta(task_id, backend.get_task_meta(task_id, cache=False))
    except Exception as exc:
        if not _is_outage(exc, backend):
            raise
        raise StoreUnavailableError(
            f"The result backend did not answer for task {task_id}: {exc}"
        ) from exc


def _is_outage(exc: Exception, backend: Any) -> bool:
    """Whether the backend was out of reach, in the words of whichever client library it uses."""
    connection_errors = tuple(getattr(backend, "connection_errors", ()))
    if isinstance(exc, (OSError, *connection_errors)):
        return True
    return type(exc).__module__.partition(".")[0] in {"redis", "botocore"}


def _may_be_seen(celery: "Celery", status: TaskStatus, names: frozenset[str] | None) -> bool:
    """A task whose name is not known yet may be anyone's, so it may be seen: it says nothing."""
    if status.name is None:
        return True
    if names is not None:
        return status.name in names
    return status.name in celery.tasks and not status.name.startswith("celery.")


async def _allowed(authorize: Authorize | None, request: Request, status: TaskStatus) -> bool:
    if authorize is None:
        return True
    verdict = authorize(request, status)
    return verdict if isinstance(verdict, bool) else await verdict
