import os

from celery import current_app
from twolane import ApiHandler

from api.main import app

current_app.conf.broker_transport_options = {
    "region": os.environ["AWS_REGION"],
    "predefined_queues": {"celery": {"url": os.environ["TASK_QUEUE_URL"]}},
}
handler = ApiHandler(app)
