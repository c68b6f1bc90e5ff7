import os

from app.settings import *

CELERY_BROKER_URL = "sqs://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {
        "default": {"url": os.environ["DEFAULT_QUEUE_URL"]},
        "high_priority": {"url": os.environ["HIGH_QUEUE_URL"]},
    },
}
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
DATABASES["default"]["NAME"] = f"{os.environ['DATA']}/db.sqlite3"
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
