"""Celery's fix-ups for Django, results in its database, and tasks on commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    text = body("orders.tasks.pay", order.pk, task_id=f"t{number}")
    answer = handler(event(record(text)), Context())
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


#: Of ``opened`` and ``closed``, as a stock worker has them (see the slow test).
COUNTS = {"": (4, 4), "2": (2, 4)}


@pytest.mark.parametrize("reuse", COUNTS, ids=["each task", "CELERY_DB_REUSE_MAX"])
def test_connections_and_caches_are_closed_after_a_task(project: Project, reuse: str) -> None:
    ours = project.script(TASKS, SHOP_DB_REUSE_MAX=reuse)
    assert "Traceback" not in ours.output
    assert ours.said["paid"]
    assert (ours.said["opened"], ours.said["closed"]) == COUNTS[reuse]


@pytest.mark.slow
@pytest.mark.parametrize("reuse", COUNTS, ids=["each task", "CELERY_DB_REUSE_MAX"])
def test_a_stock_worker_closes_as_many(project: Project, reuse: str) -> None:
    stock = project.script(STOCK, SHOP_DB_REUSE_MAX=reuse)
    assert (stock.said["opened"], stock.said["closed"]) == COUNTS[reuse]


RESULTS = """
from twolane import WorkerHandler
from twolane.state import find_store
from shop.celery import app
queues = RecordedQueues()
handler = WorkerHandler(app, queues=queues, environ={})
from celery.result import AsyncResult
from django_celery_results.models import TaskResult
from orders.models import Order

def run(task, *args, task_id, **more):
    one = record(body(task, *args, task_id=task_id, **more))
    return [handler(event(one), Context()) for _ in range(2)], one

store = find_store(app)
say(store=type(store).__name__)
run("orders.tasks.add", 2, 3, task_id="sum", periodic_task_name="nightly")
row = TaskResult.objects.get(task_id="sum")
say(result=AsyncResult("sum").get(timeout=5), rows=TaskResult.objects.count(),
    row=[row.status, row.task_name, row.task_args, row.periodic_task_name, row.worker])
first, again = run("orders.tasks.add", "a", 3, task_id="broken")[0]
say(broken=AsyncResult("broken").state, answers=[first, again])
"""


def test_results_go_to_djangos_tables_and_leases_to_the_state_store(project: Project) -> None:
    ran = project.script(RESULTS, STATE_STORE="memory://")
    said = ran.said
    assert said["store"] == "MemoryStore"
    assert said["result"] == 5
    assert said["row"][:2] == ["SUCCESS", "orders.tasks.add"]
    assert said["row"][3] == "nightly"
    assert said["row"][4].startswith("celery@")
    assert said["broken"] == "FAILURE"
    assert said["answers"] == [{"batchItemFailures": []}] * 2
    assert ran.output.count("! orders.tasks.add failed") == 1, "the copy did not run"


DOWN = """
from twolane import WorkerHandler
from shop.celery import app
handler = WorkerHandler(app, queues=RecordedQueues(), environ={})
from django.db import connection
from django_celery_results.models import TaskResult
from celery.signals import task_postrun
runs = []
task_postrun.connect(lambda **_: runs.append(1), weak=False)
with connection.cursor() as cursor:
    cursor.execute("ALTER TABLE django_celery_results_taskresult RENAME TO away")
message = body("orders.tasks.add", 2, 3, task_id="sum")
first = handler(event(record(message, "m1")), Context())
with connection.cursor() as cursor:
    cursor.execute("ALTER TABLE away RENAME TO django_celery_results_taskresult")
second = handler(event(record(message, "m1", received=2)), Context())
say(first=first, second=second, status=TaskResult.objects.get(task_id="sum").status)
"""


def test_a_result_that_the_database_does_not_take_brings_the_message_back(project: Project) -> None:
    said = project.script(DOWN, STATE_STORE="memory://").said
    assert said["first"] == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert said["second"] == {"batchItemFailures": []}
    assert said["status"] == "SUCCESS"


CANVAS = """
from celery import chain, chord, group
from celery.result import AsyncResult
from kombu import Queue
from twolane import WorkerHandler
from shop.celery import app
handler = WorkerHandler(app, queues=RecordedQueues(), environ={})
from orders.models import Order
from orders.tasks import add, pay_existing, total
import itertools
numbers = itertools.count()

def drain():
    with app.connection_for_write() as connection:
        queue = Queue("tasks")(connection.default_channel)
        queue.declare()
        ran = 0
        while (message := queue.get(no_ack=True)) is not None:
            text = json.dumps({
                "body": message.body if isinstance(message.body, str) else message.body.decode(),
                "content-type": message.content_type,
                "content-encoding": message.content_encoding,
                "headers": message.headers,
                "properties": {**message.properties, "body_encoding": "utf-8"},
            }, default=str)
            answer = handler(event(record(text, f"m{next(numbers)}")), Context())
            assert answer == {"batchItemFailures": []}, answer
            ran += 1
        return ran

chorded = chord([add.s(n, n) for n in range(4)], total.s())()
chained = chain(add.s(1, 1), add.s(2), add.s(3))()
from celery.signals import task_retry
task_retry.connect(lambda **_: Order.objects.get_or_create(pk=7), weak=False)
retried = pay_existing.delay(7)
ran = 0
while left := drain():
    ran += left
say(chorded=chorded.get(timeout=5), chained=chained.get(timeout=5), ran=ran,
    retried=[retried.state, retried.result])
"""


def test_chords_chains_and_retries_with_results_in_the_database(project: Project) -> None:
    said = project.script(CANVAS, STATE_STORE="memory://").said
    assert said["chorded"] == 12
    assert said["chained"] == 7
    assert said["retried"] == ["SUCCESS", 1]


COMMIT = """
from django.db import transaction
from kombu import Queue
from shop.celery import app
import django; django.setup()
from twolane import ApiHandler
from shop.wsgi import application
handler = ApiHandler(application, environ={})
from orders.models import Order
from django.core.management import call_command

def call(path, body=""):
    return handler({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"host": "id.example.com", "content-type": "text/plain"},
        "requestContext": {"http": {"method": "POST", "path": path, "sourceIp": "203.0.113.7"},
                           "domainName": "id.example.com", "stage": "$default"},
        "body": body, "isBase64Encoded": False,
    }, Context())

def waiting():
    with app.connection_for_write() as connection:
        queue = Queue("tasks")(connection.default_channel)
        queue.declare()
        found = []
        while (message := queue.get(no_ack=True)) is not None:
            found.append([message.headers["task"], message.headers.get("twolane_request_id")])
        return found

broken = call("/orders/broken/")
say(broken=broken["statusCode"], after_broken=waiting())
created = call("/orders/", "two of them")
say(created=[created["statusCode"], created["body"]], after_created=waiting())
"""


def test_a_task_on_commit_is_published_if_the_transaction_is_committed(project: Project) -> None:
    said = project.script(COMMIT).said
    assert said["broken"] == 500
    assert said["after_broken"] == []
    assert said["created"] == [202, '{"id": 1, "body": "two of them"}']
    assert [task for task, _ in said["after_created"]] == ["orders.tasks.pay"]
