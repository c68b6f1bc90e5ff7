import logging
import os

from celery import Celery, chord
from celery.schedules import crontab

celery = Celery("reports")
celery.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_backend=os.environ.get("RESULT_BACKEND", "redis://localhost:6379/0"),
    result_extended=True,
    timezone="Europe/Berlin",
    beat_schedule={
        "nightly": {"task": "tasks.report", "schedule": crontab(hour=3, minute=0)},
    },
)
if queue_url := os.environ.get("TASK_QUEUE_URL"):
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": os.environ["AWS_REGION"],
            "predefined_queues": {"tasks": {"url": queue_url}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
    )
else:
    celery.conf.broker_url = "redis://localhost:6379/0"

logger = logging.getLogger(__name__)

SALES = {"north": [3, 5], "south": [8], "west": []}


@celery.task
def report() -> str:
    """Count the branches side by side, then add them up; returns the id of the sum."""
    return chord([count.s(branch) for branch in SALES])(total.s()).id


@celery.task
def count(branch: str) -> int:
    return sum(SALES[branch])


@celery.task
def total(counts: list[int]) -> int:
    logger.info("Sold: %d", sum(counts))
    return sum(counts)


@celery.task
def remind(text: str) -> str:
    logger.info("Reminder: %s", text)
    return text
