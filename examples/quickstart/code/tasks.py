import logging
import os

from celery import Celery

celery = Celery("quickstart")
celery.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_backend=os.environ.get("RESULT_BACKEND", "redis://localhost:6379/0"),
    result_extended=True,
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


@celery.task(autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=5)
def send_welcome(name: str) -> str:
    logger.info("Welcome, %s", name)
    return f"Welcome, {name}"
