import os

from core.settings.base import *

CELERY_BROKER_TRANSPORT_OPTIONS = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {"celery": {"url": os.environ["TASK_QUEUE_URL"]}},
}
CELERY_TWOLANE_STATE_STORE = os.environ["STATE_STORE"]
