"""Tasks over HTTP: ``app.include_router(tasks_router(celery))``."""

# Annotations are evaluated here: FastAPI reads them, and some name what is local to the router.

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from celery import states
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from twolane.http.changes import END_ID, HEADERS, last_change, preferred_wait, streams, task_events
from twolane.http.problems import MEDIA_TYPE, Problem
from twolane.http.tasks import Authorize, Tasks, TaskStatus

if TYPE_CHECKING:
    from celery import Celery

#: Seconds that a client should wait between two looks at an unfinished task.
POLL_S = 1

_PROBLEM: dict[str, Any] = {"content": {MEDIA_TYPE: {}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such task, or none of yours", **_PROBLEM},
    503: {"description": "The result store did not answer", **_PROBLEM},
}
_REVOKE_RESPONSES: dict[int | str, dict[str, Any]] = {
    **_RESPONSES,
    409: {"description": "Already finished", **_PROBLEM},
}
_EVENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The stream", "content": {"text/event-stream": {}}},
    204: {"description": "Nothing more will come; do not reconnect"},
    **_RESPONSES,
}


def tasks_router(
    celery: "Celery",
    *,
    visible: Iterable[str] | None = None,
    authorize: Authorize | None = None,
    prefix: str = "/tasks",
) -> APIRouter:
    """``GET`` and ``DELETE {prefix}/{id}``, ``GET {prefix}/{id}/events`` for tasks of ``celery``.

    ``visible``: the names of the tasks that HTTP may know; by default the application's own, not
    Celery's built-in ones. ``authorize(request, task)`` may refuse a request: the answer is then
    the same 404 as for a task that is not there. Ids are Celery's, random UUIDs (122 bits); an id
    of another form is 404 without a look at the store.

    An unfinished task is answered with ``Retry-After``. A waiting task, an unknown id and an
    expired result are all ``PENDING``, as everywhere in Celery:
    https://docs.celeryq.dev/en/stable/userguide/tasks.html#pending

    ``Prefer: wait=N`` holds the answer back until the task is finished, for 20 s at most. Events
    are streamed where the platform streams; elsewhere they are polling in the same form.
    """
    router = APIRouter(prefix=prefix, tags=["tasks"])
    tasks = Tasks(celery, visible, authorize)

    async def known(
        request: Request,
        task_id: Annotated[
            str,
            Path(
                alias="id",
                description="The task's id.",
                json_schema_extra={"format": "uuid"},
            ),
        ],
    ) -> TaskStatus:
        return await tasks.look(request, task_id)

    @router.get("/{id}", response_model=TaskStatus, responses=_RESPONSES)
    async def read_task(
        request: Request,
        response: Response,
        status: Annotated[TaskStatus, Depends(known)],
        prefer: Annotated[
            str | None, Header(description="`wait=N`: answer once finished, or after N seconds.")
        ] = None,
    ) -> TaskStatus:
        """How a task stands: its state, progress, attempts, and result or error."""
        wait_s = preferred_wait(prefer)
        if wait_s is not None:
            status = await last_change(status, partial(tasks.look, request, status.id), wait_s)
            response.headers["preference-applied"] = f"wait={wait_s:.0f}"
        response.headers["cache-control"] = "no-store"
        if not status.finished:
            response.headers["retry-after"] = str(POLL_S)
        return status

    @router.get("/{id}/events", response_class=StreamingResponse, responses=_EVENT_RESPONSES)
    async def watch_task(
        request: Request,
        status: Annotated[TaskStatus, Depends(known)],
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """A task's changes as server-sent events: `status` for each, `end` with the last."""
        if last_event_id == END_ID:
            # Tells an EventSource to stop coming back.
            return Response(status_code=204)
        look = partial(tasks.look, request, status.id)
        events = task_events(look, streaming=streams(request.scope))
        return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)

    @router.delete("/{id}", status_code=202, response_model=TaskStatus, responses=_REVOKE_RESPONSES)
    async def revoke_task(
        request: Request, status: Annotated[TaskStatus, Depends(known)]
    ) -> TaskStatus:
        """Revoke a task: it will not start. One that has started runs on."""
        if status.finished and status.state != states.REVOKED:
            detail = f"The task is already finished ({status.state})."
            raise Problem(409, detail, state=status.state)
        if not status.finished:
            await run_in_threadpool(celery.control.revoke, status.id)
            status = await tasks.look(request, status.id)
        return status

    return router
