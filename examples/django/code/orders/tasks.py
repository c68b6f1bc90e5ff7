from celery import shared_task

from orders.models import Order


@shared_task
def pay(order_id: int) -> int:
    return Order.objects.filter(pk=order_id, paid=False).update(paid=True)
