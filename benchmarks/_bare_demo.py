"""The demonstration application's own part on FastAPI + Mangum, without Celery and twolane.

The same settings, models, routes and jobs as ``app.api``; each job is a background task.
"""

from typing import Annotated

from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException
from mangum import Mangum
from pydantic import BaseModel, EmailStr, Field

from app import mail, recipients
from app.auth import authorized
from app.settings import get_settings

app = FastAPI(title="Notifications", version="1.0.0")
guarded = [Depends(authorized)] if get_settings().api_key_sha256 else []


class Notification(BaseModel):
    email: EmailStr
    message: Annotated[str, Field(min_length=1, max_length=10_000)]


class DeferredNotification(Notification):
    delay_seconds: Annotated[float, Field(ge=0, le=7 * 86_400, strict=True)] = 0


class Campaign(BaseModel):
    recipients: Annotated[list[EmailStr], Field(min_length=1, max_length=1_000)]
    message: Annotated[str, Field(min_length=1, max_length=10_000)]


class Message(BaseModel):
    message: str


class Accepted(Message):
    id: str


@app.post("/notify", dependencies=guarded)
def notify(notification: Notification, tasks: BackgroundTasks) -> Message:
    tasks.add_task(mail.deliver, notification.email, notification.message)
    return Message(message="Notification will be sent")


@app.post("/notify/deferred", status_code=202, dependencies=guarded)
def notify_deferred(notification: DeferredNotification, tasks: BackgroundTasks) -> Accepted:
    tasks.add_task(mail.deliver, notification.email, notification.message)
    return Accepted(message="Notification will be sent", id="")


@app.post("/campaigns", status_code=202, dependencies=guarded)
def start_campaign(campaign: Campaign, tasks: BackgroundTasks) -> Accepted:
    for email in campaign.recipients:
        tasks.add_task(mail.deliver, email, campaign.message)
    return Accepted(message="Campaign will be sent", id="")


@app.post("/imports", status_code=202, dependencies=guarded)
def start_import(
    file: Annotated[bytes, Body(media_type="text/csv", min_length=1, max_length=5_000_000)],
    tasks: BackgroundTasks,
) -> Accepted:
    try:
        text = file.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HTTPException(422, f"the file is not UTF-8: {error.reason}") from error
    tasks.add_task(lambda: list(recipients.read(text)[1]))
    return Accepted(message="Import will be read", id="")


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/readyz")
def readyz() -> dict[str, str]:
    return {"status": "ready"}


handler = Mangum(app)
