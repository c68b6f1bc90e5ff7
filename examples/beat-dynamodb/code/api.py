from datetime import datetime

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel
from twolane import ApiHandler, tasks_router

from tasks import celery, remind, report

app = FastAPI()
app.include_router(tasks_router(celery))


class Reminder(BaseModel):
    text: str
    at: AwareDatetime


@app.post("/reports", status_code=202)
def start_report() -> dict[str, str]:
    return {"id": report.delay().id}


@app.post("/reminders", status_code=202)
def set_reminder(reminder: Reminder) -> dict[str, str | datetime]:
    return {"id": remind.apply_async((reminder.text,), eta=reminder.at).id, "at": reminder.at}


handler = ApiHandler(app)
