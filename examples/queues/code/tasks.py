import logging
import os

from celery import Celery

celery = Celery("queues")
celery.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_backend=os.environ.get("RESULT_BACKEND", "redis://localhost:6379/0"),
    result_extended=True,
    task_default_queue="mail",
    task_routes={
        "tasks.thumbnail": {"queue": "images"},
        "tasks.book": {"queue": "ledger.fifo"},
    },
)
if "MAIL_QUEUE_URL" in os.environ:
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": os.environ["AWS_REGION"],
            "predefined_queues": {
                "mail": {"url": os.environ["MAIL_QUEUE_URL"]},
                "images": {"url": os.environ["IMAGES_QUEUE_URL"]},
                "ledger.fifo": {"url": os.environ["LEDGER_QUEUE_URL"]},
            },
            "sqs_base64_encoding": False,
        },
    )
else:
    celery.conf.broker_url = "redis://localhost:6379/0"

logger = logging.getLogger(__name__)

BLOCKED = {"spam.example.com"}


# What fails is not acknowledged: its message ends on the dead-letter queue.
@celery.task(acks_late=True, acks_on_failure_or_timeout=False, time_limit=3)
def send_mail(address: str) -> None:
    if address.partition("@")[2] in BLOCKED:
        raise PermissionError(address)
    logger.info("Sent to %s", address)


@celery.task(time_limit=20)
def thumbnail(photo: str) -> str:
    return f"{photo.removesuffix('.jpg')}-small.jpg"


@celery.task(time_limit=3)
def book(account: str, cents: int) -> None:
    logger.info("Booked %s %+d", account, cents)
