from celery import shared_task
from django.core.cache import cache

from orders.models import Order


@shared_task
def pay(number):
    cache.set("last", number)
    return Order.objects.filter(pk=number).update(paid=True)


@shared_task
def count():
    return Order.objects.count()


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task(
    bind=True,
    autoretry_for=(Order.DoesNotExist,),
    max_retries=3,
    retry_backoff=False,
    default_retry_delay=0,
)
def pay_existing(self, number):
    order = Order.objects.get(pk=number)
    order.paid = True
    order.save()
    return self.request.retries
