import os

from project import config, create_app

config.settings.CELERY_BROKER_URL = "sqs://"
config.settings.CELERY_BROKER_TRANSPORT_OPTIONS = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {
        "default": {"url": os.environ["DEFAULT_QUEUE_URL"]},
        "high_priority": {"url": os.environ["HIGH_QUEUE_URL"]},
        "low_priority": {"url": os.environ["LOW_QUEUE_URL"]},
    },
}
config.settings.CELERY_BEAT_SCHEDULE = {
    "task-schedule-work": {"task": "task_schedule_work", "schedule": 5.0}
}
app = create_app()
celery = app.celery_app
