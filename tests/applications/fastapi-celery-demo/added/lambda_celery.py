import os

from src.task_defs import calculation_task, sleep_task  # noqa: F401 - their worker imports none
from src.worker import celery_app

celery_app.conf.update(
    broker_url="sqs://",
    broker_transport_options={
        "region": os.environ["AWS_REGION"],
        "predefined_queues": {"celery": {"url": os.environ["TASK_QUEUE_URL"]}},
    },
)
