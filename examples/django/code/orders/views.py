from django.db import transaction
from django.http import HttpRequest, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orders.models import Order
from orders.tasks import pay


@csrf_exempt
@require_POST
@transaction.atomic
def add_order(request: HttpRequest) -> JsonResponse | HttpResponseBadRequest:
    order = Order.objects.create(item=request.POST.get("item", ""))
    pay.delay_on_commit(order.pk)
    if not order.item:
        transaction.set_rollback(True)  # nothing is sent
        return HttpResponseBadRequest("an order has an item")
    return JsonResponse({"id": order.pk}, status=202)


def get_order(request: HttpRequest, order_id: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"id": order.pk, "item": order.item, "paid": order.paid})
