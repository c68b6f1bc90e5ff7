import os

from app import create_app
from config import Config

app = create_app(Config)
add_app, factorial_app = app.celery_apps["add_app"], app.celery_apps["factorial_app"]
for celery, queue in ((add_app, "ADD_QUEUE_URL"), (factorial_app, "FACTORIAL_QUEUE_URL")):
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": os.environ["AWS_REGION"],
            "predefined_queues": {"haha": {"url": os.environ[queue]}},
        },
        twolane_state_store=os.environ["STATE_STORE"],
    )
