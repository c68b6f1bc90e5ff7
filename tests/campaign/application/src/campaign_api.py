"""The API function: it sends what it is asked for."""

from typing import Any

import campaign_units
from campaign_tasks import app as celery
from fastapi import FastAPI

from twolane import ApiHandler

app = FastAPI()


@app.post("/send", status_code=202)
def send(unit: dict[str, Any]) -> dict[str, Any]:
    campaign_units.send(unit)
    return {"unit": unit["unit"]}


@app.post("/revoke/{task_id}", status_code=202)
def revoke(task_id: str) -> dict[str, str]:
    celery.control.revoke(task_id)
    return {"id": task_id}


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


handler = ApiHandler(app)
