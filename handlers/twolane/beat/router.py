"""The schedule over HTTP: ``app.include_router(schedules_router(celery))``."""

# Annotations are evaluated here: FastAPI reads them.

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from twolane.http.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from celery import Celery

    from twolane.beat.entries import Missed


class ScheduledEntry(BaseModel):
    """One entry of ``beat_schedule``; times in UTC."""

    name: str
    task: str
    schedule: str = Field(examples=["07:00 every day"])
    timezone: str = Field(description="in which the schedule is meant", examples=["Europe/Berlin"])
    missed: str = Field(description="what becomes of missed slots: skip, latest or all")
    next: list[str] = Field(description="the next times", examples=[["2026-01-01T07:00:00Z"]])
    last: str | None = Field(description="the last slot that was sent")
    taskId: str | None = Field(description="the id of the task that was sent for it")  # noqa: N815


def schedules_router(
    celery: "Celery",
    *,
    missed: "Missed" = "latest",
    prefix: str = "/schedules",
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    """``GET {prefix}``: the entries with their next times, last run and its task's id.

    ``missed`` as it is given to ``BeatHandler``. A state store that does not answer is 503, where
    ``twolane.http.problems`` is installed.
    """
    router = APIRouter(tags=["schedules"])
    unavailable = {"description": "The state store did not answer", "content": {MEDIA_TYPE: {}}}

    # No `async`: the store's client blocks, and FastAPI calls a plain function on a thread.
    @router.get(prefix, responses={503: unavailable})
    def list_schedules(
        count: Annotated[int, Query(ge=1, le=100, description="next times for each")] = 3,
    ) -> list[ScheduledEntry]:
        """The entries of `beat_schedule`, by name."""
        # Not before someone asks: an API's cold start is not to wait for beat.
        from twolane.beat.inspection import list_entries
        from twolane.state import open_store

        listed = list_entries(celery, open_store(celery), clock(), count=count, missed=missed)
        return [ScheduledEntry(**each.as_json()) for each in listed]

    return router
