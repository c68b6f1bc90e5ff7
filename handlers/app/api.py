"""The API: quick work runs after the response, long work is queued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from celery import chord
from fastapi import BackgroundTasks, Body, Depends, FastAPI, HTTPException, Response
from pydantic import BaseModel, EmailStr, Field

from app.auth import authorized
from app.settings import get_settings
from app.tasks import campaign_report, celery, import_recipients, send_notification
from twolane import (
    ApiHandler,
    idempotent_route,
    install_problems,
    schedules_router,
    tasks_router,
)

if TYPE_CHECKING:
    from celery.result import AsyncResult

app = FastAPI(title="Notifications", version="1.0.0")
install_problems(app)
# An Idempotency-Key makes it safe to send again what may have been enqueued already.
app.router.route_class = idempotent_route(celery)
# The OpenAPI document asks for a key only where one is asked for.
guarded = [Depends(authorized)] if get_settings().api_key_sha256 else []


class Notification(BaseModel):
    """One message to one address."""

    email: EmailStr
    message: Annotated[str, Field(min_length=1, max_length=10_000)]


class DeferredNotification(Notification):
    """One message to one address, now or later."""

    delay_seconds: Annotated[float, Field(ge=0, le=7 * 86_400, strict=True)] = 0


class Campaign(BaseModel):
    """One message to many addresses."""

    recipients: Annotated[list[EmailStr], Field(min_length=1, max_length=1_000)]
    message: Annotated[str, Field(min_length=1, max_length=10_000)]


class Message(BaseModel):
    """What was done."""

    message: str


class Accepted(Message):
    """What was queued, and the id under which ``/tasks/{id}`` tells how it goes."""

    id: str


def accepted(response: Response, message: str, task: AsyncResult[Any]) -> Accepted:
    """Answer 202 as HTTP means it: where to look, and when."""
    response.headers["Location"] = f"/tasks/{task.id}"
    response.headers["Retry-After"] = "1"
    return Accepted(message=message, id=task.id)


@app.post("/notify", dependencies=guarded)
def notify(notification: Notification, background_tasks: BackgroundTasks) -> Message:
    """The inline lane: the response leaves first, the notification follows."""
    background_tasks.add_task(send_notification, notification.email, notification.message)
    return Message(message="Notification will be sent")


@app.post("/notify/deferred", status_code=202, dependencies=guarded)
def notify_deferred(notification: DeferredNotification, response: Response) -> Accepted:
    """The deferred lane: queued, retried, inspected under ``/tasks/{id}``."""
    task = send_notification.apply_async(
        (notification.email, notification.message),
        countdown=notification.delay_seconds,
    )
    return accepted(response, "Notification task queued", task)


@app.post("/campaigns", status_code=202, dependencies=guarded)
def start_campaign(campaign: Campaign, response: Response) -> Accepted:
    """Many notifications, then one report that counts them."""
    sends = [
        send_notification.s(email, campaign.message, best_effort=True)
        for email in campaign.recipients
    ]
    return accepted(response, "Campaign queued", chord(sends)(campaign_report.s()))


@app.post("/imports", status_code=202, dependencies=guarded)
def start_import(
    file: Annotated[bytes, Body(media_type="text/csv", min_length=1, max_length=5_000_000)],
    response: Response,
) -> Accepted:
    """Validate a CSV of recipients, with progress under ``/tasks/{id}``."""
    try:
        text = file.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HTTPException(422, f"the file is not UTF-8: {error.reason}") from error
    return accepted(response, "Import queued", import_recipients.delay(text))


app.include_router(tasks_router(celery), dependencies=guarded)
app.include_router(schedules_router(celery), dependencies=guarded)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@app.get("/readyz")
def readyz() -> dict[str, str]:
    """The result store answers too."""
    try:
        celery.AsyncResult("readyz").state  # noqa: B018 - asks the store, whichever it is
    except Exception as error:  # each backend raises its own client's errors
        raise HTTPException(503, "the result store does not answer") from error
    return {"status": "ready"}


handler = ApiHandler(app)
