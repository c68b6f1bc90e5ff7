import os

from twolane import WorkerHandler
from workflows.worker import app

app.conf.update(
    broker_url="sqs://",
    broker_transport_options={
        "region": os.environ["AWS_REGION"],
        "predefined_queues": {"default": {"url": os.environ["TASK_QUEUE_URL"]}},
    },
    result_backend=os.environ["RESULT_BACKEND"],
)
handler = WorkerHandler(app)
