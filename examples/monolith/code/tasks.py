from celery import Celery

from database import Order, new_session
from settings import REDIS_URL, TASK_QUEUE_URL

celery = Celery("monolith")
celery.conf.update(
    task_serializer="json",
    accept_content=["json"],
    broker_url=REDIS_URL,
    result_backend=REDIS_URL,
    result_extended=True,
)
if TASK_QUEUE_URL:
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "predefined_queues": {"tasks": {"url": TASK_QUEUE_URL}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
    )


@celery.task
def pay(order_id: int) -> bool:
    """Mark an order as paid; returns whether that is new."""
    with new_session.begin() as session:  # a session for each task; committed if it returns
        order = session.get_one(Order, order_id, with_for_update=True)
        is_new = not order.paid
        order.paid = True
    return is_new
