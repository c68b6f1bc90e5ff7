import os

from project import create_app, ext_celery
from project.config import ProductionConfig, config


class LambdaConfig(ProductionConfig):
    CELERY_BROKER_URL = "sqs://"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "region": os.environ["AWS_REGION"],
        "predefined_queues": {
            "default": {"url": os.environ["DEFAULT_QUEUE_URL"]},
            "high_priority": {"url": os.environ["HIGH_QUEUE_URL"]},
            "low_priority": {"url": os.environ["LOW_QUEUE_URL"]},
        },
    }
    CELERY_BEAT_SCHEDULE = {"task-schedule-work": {"task": "task_schedule_work", "schedule": 5.0}}


config["lambda"] = LambdaConfig
app = create_app("lambda")
celery = ext_celery.celery
