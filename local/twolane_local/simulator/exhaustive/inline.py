"""The API of the inline lane: an endpoint that leaves its background task no time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import BackgroundTasks, FastAPI

from twolane import ApiHandler

if TYPE_CHECKING:
    from celery import Celery

#: How long the endpoint takes: until the reserve of a function of thirty seconds is reached.
ENDPOINT_S = 29.5


def handler(celery: Celery) -> Any:
    """A handler of its own for each execution environment."""
    api = FastAPI()
    work: Any = celery.tasks["work"]

    @api.post("/", status_code=202)
    def accept(background: BackgroundTasks) -> dict[str, str]:
        background.add_task(work, "once", 7)
        time.sleep(ENDPOINT_S)
        return {"status": "accepted"}

    return ApiHandler(api)
