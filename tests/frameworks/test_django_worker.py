"""Celery's fix-ups for Django, results in its database, and tasks on commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Project

#: Two tasks in an environment, with what is opened and closed around them.
TASKS = """
from django.db.backends.signals import connection_created
from twolane import WorkerHandler
from twolane.state.memory import MemoryStore
from shop.celery import app
opened = []
connection_created.connect(lambda **_: opened.append(1), weak=False)
handler = WorkerHandler(app, queues=RecordedQueues(), store=MemoryStore(), environ={})
from django.db import connection
from orders.cache import closed
from orders.models import Order
before = len(opened)
app.conf.result_backend  # read once
order = Order.objects.create()
connection.close()
opened.clear(); closed.clear()
for number in range(4):
    answer = handler(event(record(body("orders.tasks.pay", order.pk, task_id=f"t{number}"))), Context())
    assert answer == {"batchItemFailures": []}, answer
say(opened=len(opened), closed=len(closed), left=connection.connection is not None,
    paid=Order.objects.get().paid)
"""

#: The same under ``celery worker --pool solo``.
STOCK = """
from django.db.backends.signals import connection_created
from shop.celery import app
from celery.contrib.testing.worker import start_worker
app.loader.import_default_modules()
opened, states = [], []
from celery.signals import task_postrun
from django.db import connection
from orders.cache import closed
from orders.models import Order
from orders.tasks import pay
order = Order.objects.create()
connection.close()
with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
    connection_created.connect(lambda **_: opened.append(1), weak=False)
    closed.clear()
    from threading import Event
    done = Event()
    def note(**_):
        states.append(1)
        if len(states) == 4:
            done.set()
    task_postrun.connect(note, weak=False)
    for number in range(4):
        pay.apply_async((order.pk,), task_id=f"t{number}")
    assert done.wait(30)
say(opened=len(opened), closed=len(closed))
"""


@pytest.mark.parametrize("reuse", ["", "2"], ids=["each task", "CELERY_DB_REUSE_MAX"])
def test_connections_and_caches_are_closed_as_under_a_stock_worker(
    project: Project, reuse: str
) -> None:
    ours = project.script(TASKS, SHOP_DB_REUSE_MAX=reuse)
    assert "Traceback" not in ours.output
    assert ours.said["paid"]
    stock = project.script(STOCK, SHOP_DB_REUSE_MAX=reuse)
    assert (ours.said["opened"], ours.said["closed"]) == (stock.said["opened"], stock.said["closed"])
    assert ours.said["left"] is bool(reuse)
