from celery.result import AsyncResult
from django.db import transaction
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt

from orders.models import Order
from orders.tasks import pay


@csrf_exempt
def create(request):
    with transaction.atomic():
        order = Order.objects.create()
        pay.delay_on_commit(order.pk)
    return JsonResponse({"id": order.pk, "body": request.body.decode()}, status=202)


@csrf_exempt
def broken(request):
    with transaction.atomic():
        order = Order.objects.create()
        pay.delay_on_commit(order.pk)
        raise RuntimeError("the transaction is rolled back")


def show(request, number):
    return JsonResponse({"paid": Order.objects.get(pk=number).paid})


def result(request, task_id):
    found = AsyncResult(task_id)
    return JsonResponse({"state": found.state, "result": found.result})
