import os

from django_celery_example.settings import *

CELERY_BROKER_URL = "sqs://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {
        "default": {"url": os.environ["DEFAULT_QUEUE_URL"]},
        "high_priority": {"url": os.environ["HIGH_QUEUE_URL"]},
        "low_priority": {"url": os.environ["LOW_QUEUE_URL"]},
    },
}
CELERY_BEAT_SCHEDULE = {"task-clear-session": {"task": "task_clear_session", "schedule": 5.0}}
