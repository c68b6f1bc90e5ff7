import os

from proj.settings import *

CELERY_BROKER_URL = "sqs://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {"celery": {"url": os.environ["TASK_QUEUE_URL"]}},
}
CELERY_RESULT_BACKEND = f"db+sqlite:///{os.environ['DATA']}/results.sqlite"
DATABASES["default"]["NAME"] = f"{os.environ['DATA']}/db.sqlite3"
CELERY_BEAT_SCHEDULE = {"count": {"task": "demoapp.tasks.count_widgets", "schedule": 30.0}}
# Results are in a database: leases, revoked ids and beat's ledger are in Redis.
CELERY_TWOLANE_STATE_STORE = os.environ.get("STATE_STORE")
