"""The deferred lane's tasks, as Celery's documentation writes them.

``send_notification`` serves both lanes: FastAPI's ``BackgroundTasks`` calls it, ``.delay()`` queues
it. Called, it tries once; queued, Celery retries it and in the end leaves its message to the
dead-letter queue.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from celery import Celery, group
from celery.schedules import crontab
from celery.utils.log import get_task_logger

from app import mail, recipients
from app.settings import get_settings

if TYPE_CHECKING:
    from celery import Task

logger = get_task_logger(__name__)

celery = Celery("app")
celery.conf.update(
    get_settings().celery(),
    beat_schedule={
        "daily-digest": {"task": "app.tasks.daily_digest", "schedule": crontab(hour=7, minute=0)},
    },
)


@celery.task(
    bind=True,
    autoretry_for=(mail.ProviderUnavailableError,),
    max_retries=3,
    retry_backoff=True,
    retry_jitter=True,
    # A notification that could not be sent is not acknowledged: the broker dead-letters it.
    acks_late=True,
    acks_on_failure_or_timeout=False,
)
def send_notification(
    self: Task[..., Any], email: str, message: str, *, best_effort: bool = False
) -> dict[str, str]:
    """Send one notification: ``{"email": …, "outcome": "sent" | "refused" | "failed"}``.

    ``failed`` is only for ``best_effort``: the last attempt then counts instead of raising, so that
    one address does not fail a whole campaign's report.
    """
    logger.info("Sending notification to %s", email)
    try:
        mail.deliver(email, message, attempt=self.request.retries)
    except mail.MessageRefusedError as refused:
        logger.warning("Notification to %s was refused: %s", email, refused)
        return {"email": email, "outcome": "refused"}
    except mail.ProviderUnavailableError:
        if best_effort and self.request.retries == self.max_retries:
            return {"email": email, "outcome": "failed"}
        raise
    return {"email": email, "outcome": "sent"}


@celery.task
def campaign_report(outcomes: list[dict[str, str]]) -> dict[str, int]:
    """Count what became of a campaign's notifications."""
    counted = Counter(outcome["outcome"] for outcome in outcomes)
    return {"recipients": len(outcomes)} | {
        outcome: counted[outcome] for outcome in ("sent", "refused", "failed")
    }


@celery.task(bind=True, throws=(recipients.UnusableFileError,))
def import_recipients(self: Task[..., Any], text: str) -> dict[str, Any]:
    """Validate a CSV of recipients row by row, and tell how far it is."""
    total, reports = recipients.read(text)
    report = recipients.Report()
    every = max(1, total // 20)
    for report in reports:
        if report.rows % every == 0:
            self.update_state(state="PROGRESS", meta={"current": report.rows, "total": total})
    return asdict(report)


@celery.task
def daily_digest() -> int:
    """Queue the digest for each of its readers; how many there are."""
    readers = [reader.strip() for reader in get_settings().digest_recipients.split(",")]
    digest = group(send_notification.s(reader, "Your daily digest") for reader in readers if reader)
    digest.delay()
    return len(digest.tasks)
