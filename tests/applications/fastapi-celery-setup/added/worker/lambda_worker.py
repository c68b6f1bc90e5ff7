import os

from app.main import celery
from twolane import WorkerHandler

celery.conf.broker_transport_options = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {"celery": {"url": os.environ["TASK_QUEUE_URL"]}},
}
handler = WorkerHandler(celery)
