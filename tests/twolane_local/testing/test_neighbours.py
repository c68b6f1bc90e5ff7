"""The plugin beside other plugins, and beside the fixtures that projects have of their own."""

from __future__ import annotations

import pytest
from tests.twolane_local.testing.sessions import CONFIGURED, GREETS, TEMPLATE, Sessions

# Coroutines.

ASYNC = """
import anyio
import httpx
import pytest

@pytest.fixture
def app(twolane):
    from shop.api import app
    return app

def transport(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

@MARK
async def test_the_fixture_in_a_running_loop(twolane):
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"
    await anyio.sleep(0)

@MARK
async def test_asgi_transport(twolane, app):
    async with transport(app) as client:
        identity = (await client.post("/greetings/ann")).json()["id"]
        assert (await client.get("/greeting")).json()["text"] == "hello!"
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"

@MARK
async def test_both_at_once(twolane, app):
    async def ask(client):
        return (await client.get("/greeting")).json()["text"]
    async with transport(app) as client:
        found = {await ask(client)}
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client)
            group.start_soon(ask, client)
        assert {*found, twolane.client.get("/greeting").json()["text"]} == {"hello!"}

@MARK
async def test_time_stands_still_for_a_loop_of_the_test(twolane):
    import time
    before, real = time.time(), time.monotonic()
    await anyio.sleep(0.05)
    assert time.time() == before
    assert time.monotonic() > real
    twolane.clock.advance(60)
    assert time.time() == before + 60

@ASYNC_FIXTURE
async def prepared_client(twolane, app):
    async with transport(app) as client:
        yield client

@MARK
async def test_an_async_fixture(prepared_client, twolane):
    assert (await prepared_client.get("/greeting")).status_code == 200
"""
LOOPS = "asyncio_default_fixture_loop_scope=function"


def coroutines(mark: str, fixture: str, before: str = "") -> str:
    return before + ASYNC.replace("@MARK", mark).replace("@ASYNC_FIXTURE", fixture)


@pytest.mark.slow
def test_pytest_asyncio(sessions: Sessions) -> None:
    sessions.application("src")
    strict = coroutines(
        "@pytest.mark.asyncio", "@pytest_asyncio.fixture", "import pytest_asyncio\n"
    )
    auto = coroutines("", "@pytest.fixture")
    sessions.write({"strict/test_strict.py": strict, "auto/test_auto.py": auto})
    for mode in ("strict", "auto"):
        options = ("-o", f"asyncio_mode={mode}", "-o", LOOPS, mode)
        sessions.run(*options, plugins=("asyncio",), passed=5)


@pytest.mark.slow
def test_anyio_on_both_of_its_backends(sessions: Sessions) -> None:
    sessions.application("src")
    sessions.write({"test_anyio.py": coroutines("@pytest.mark.anyio", "@pytest.fixture")})
    sessions.run(plugins=("anyio",), passed=10)


# What replaces AWS, Redis, variables, time, parts of the application.

MOCKS = """
import boto3
import fakeredis
import pytest
from moto import mock_aws

@pytest.fixture
def s3():
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="own")
        yield client

@pytest.fixture
def aws_credentials(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")

def test_fixture_before(aws_credentials, s3, twolane):
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["own"]

def test_fixture_after(aws_credentials, twolane, s3):
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["own"]
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1

@mock_aws
def test_decorator(twolane):
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="own")
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"

def test_context(twolane):
    twolane.client.post("/greetings/ann")
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="own")
        twolane.client.post("/greetings/eve")
        buckets = boto3.client("s3", region_name="us-east-1").list_buckets()["Buckets"]
        assert [each["Name"] for each in buckets] == ["own"]
    assert twolane.deferred.run() == 2

@mock_aws
def test_without_the_stack():
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="own")
    sqs = boto3.client("sqs", region_name="us-east-1")
    url = sqs.create_queue(QueueName="mine")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "x"

@mock_aws
class TestDecorated:
    def test_in_class(self, twolane):
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="own")
        twolane.client.post("/greetings/ann")
        assert twolane.deferred.run() == 1

def test_fakeredis(twolane, monkeypatch):
    import redis
    server = fakeredis.FakeServer()
    mine = fakeredis.FakeRedis(server=server)
    mine.set("a", 1)
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1
    assert mine.get("a") == b"1"
    assert mine.keys() == [b"a"]

@pytest.fixture
def patched_redis(monkeypatch):
    import redis
    monkeypatch.setattr(redis, "Redis", fakeredis.FakeRedis)
    monkeypatch.setattr(redis, "StrictRedis", fakeredis.FakeStrictRedis)

def test_patched(patched_redis, twolane):
    import redis
    own = redis.Redis()
    own.set("a", 1)
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"
    assert own.get("a") == b"1"

def test_patched_after(twolane, patched_redis):
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"
"""
PATCHES = """
import os
import pytest

def test_set(twolane, monkeypatch):
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "hello"}
    monkeypatch.setenv("GREETING", "bonjour")
    monkeypatch.setenv("OWN", "1")
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "bonjour"}
    twolane.client.post("/greetings/ann")
    assert os.environ["GREETING"] == "bonjour"

def test_set_2(monkeypatch, twolane):
    monkeypatch.setenv("GREETING", "bonjour")
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "bonjour"}

def test_nothing_is_left():
    assert "GREETING" not in os.environ
    assert "TASK_QUEUE_URL" not in os.environ
    assert "OWN" not in os.environ

def test_deleted(monkeypatch, twolane):
    monkeypatch.delenv("GREETING")
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": None}

def test_nothing_is_left_again():
    assert "GREETING" not in os.environ

def test_before(monkeypatch, request):
    monkeypatch.setenv("GREETING", "mine")
    twolane = request.getfixturevalue("twolane")
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "hello"}

def test_override(twolane):
    from shop.api import app, suffix
    app.dependency_overrides[suffix] = lambda: "?"
    try:
        assert twolane.client.get("/greeting").json()["text"] == "hello?"
    finally:
        app.dependency_overrides.clear()

def test_patch(twolane, monkeypatch):
    monkeypatch.setattr("shop.api.GREETING", "patched")
    assert twolane.client.get("/greeting").json()["text"] == "patched!"

def test_mock(twolane):
    from unittest import mock
    with mock.patch("shop.tasks.greet.run", return_value="x") as run:
        pass
    with mock.patch("shop.api.greet") as greet:
        greet.delay.return_value.id = "mocked"
        assert twolane.client.post("/greetings/ann").json() == {"id": "mocked"}
"""
TIMES = """
import datetime as dt, time
import freezegun, time_machine, pytest

@freezegun.freeze_time("2030-01-01")
def test_frozen(twolane):
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1
    assert dt.datetime.now().year == 2030

def test_frozen_within(twolane):
    with freezegun.freeze_time("2030-01-01"):
        twolane.client.post("/greetings/ann")
        assert twolane.deferred.run() == 1
        twolane.clock.advance(60)
    assert dt.datetime.now().year == 2026

@pytest.fixture
def frozen():
    with freezegun.freeze_time("2030-01-01"):
        yield

def test_frozen_before(frozen, twolane):
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1
    assert dt.datetime.now().year == 2030

@time_machine.travel("2030-01-01")
def test_travel(twolane):
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1
    assert dt.datetime.now().year == 2030

def test_travel_fixture(time_machine, twolane):
    time_machine.move_to("2030-01-01")
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1
    assert dt.datetime.now().year == 2030
    twolane.clock.advance(60)

def test_travel_fixture_before(time_machine, request):
    time_machine.move_to("2030-01-01")
    twolane = request.getfixturevalue("twolane")
    twolane.client.post("/greetings/ann")
    assert twolane.deferred.run() == 1

def test_time_is_real_again():
    assert dt.datetime.now().year not in (2030,)
    assert abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 10
"""


def test_the_project_s_own_mocks_variables_and_times(sessions: Sessions) -> None:
    sessions.application(".")
    sessions.write({"test_mocks.py": MOCKS, "test_patches.py": PATCHES, "test_times.py": TIMES})
    count = (MOCKS + PATCHES + TIMES).count("def test_")
    output = sessions.run(plugins=("time_machine",), passed=count - 1, error=1)
    assert "the stack cannot move time where something else has stopped it" in output
    assert "@pytest.mark.twolane(start=…), or freeze time inside of it" in output


# Other plugins, and unittest's classes.

UNITTEST = """
import unittest
import pytest

@pytest.mark.usefixtures("twolane")
class TestUses(unittest.TestCase):
    def setUp(self):
        from shop.tasks import greet
        self.greet = greet
    def test_delay(self):
        self.assertTrue(self.greet.delay("ann").id)

class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _stack(self, twolane):
        self.twolane = twolane

    def test_one(self):
        identity = self.twolane.client.post("/greetings/ann").json()["id"]
        self.assertEqual(self.twolane.deferred.run(), 1)
        self.assertEqual(self.twolane.tasks[identity].state, "SUCCESS")

    def test_two(self):
        self.assertEqual(len(self.twolane.queue("Tasks")), 0)

class TestAsync(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _stack(self, twolane):
        self.twolane = twolane

    async def test_async(self):
        identity = self.twolane.client.post("/greetings/ann").json()["id"]
        self.assertEqual(self.twolane.deferred.run(), 1)
"""
VARIABLES = """
import os
def test_env(twolane):
    assert os.environ["FROM_ENV"] == "here"
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "hello"}
def test_env_alone():
    assert os.environ["GREETING"] == "of pytest-env"
"""
REPEATS = """
import random, uuid
import pytest
from pathlib import Path

@pytest.mark.parametrize("number", range(4))
def test_repeats(twolane, number):
    first = twolane.client.post("/greetings/ann").json()["id"]
    with Path("ids").open("a") as ids:
        ids.write(f"{number} {first}\\n")
    assert twolane.deferred.run() == 1
"""
ENV = """
[pytest]
pythonpath = src
env =
    FROM_ENV=here
    GREETING=of pytest-env
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_beside_popular_plugins(sessions: Sessions) -> None:
    sessions.application("src")
    sessions.write({"tests/test_unit.py": UNITTEST, "tests/test_env.py": VARIABLES,
                    "tests/test_repeats.py": REPEATS, "pytest.ini": ENV})  # fmt: skip
    randomly = ("env", "pytest_randomly")
    first = sessions.run("--randomly-seed=1", plugins=randomly, passed=10)
    sessions.run("--randomly-seed=2", "-n", "2", plugins=(*randomly, "xdist"), passed=10)
    assert "--randomly-seed=1" in first
    ids = (sessions.folder / "ids").read_text().splitlines()
    assert len(ids) == 8
    assert len(set(ids)) == 4  # whatever another plugin seeds, and in whatever order
    covered = ("--cov=shop", "--cov-branch", "--cov-report=term-missing", "--cov-fail-under=100")
    output = sessions.run(*covered, plugins=("env", "pytest_cov"), passed=10)
    assert "src/shop/tasks.py" in output


@pytest.mark.slow
def test_beside_pytest_socket(sessions: Sessions) -> None:
    sessions.application("src")
    sessions.write({"test_greets.py": GREETS})
    plugins = ("pytest_socket",)
    sessions.run("--disable-socket", "--allow-unix-socket", plugins=plugins, passed=1)
    output = sessions.run("--disable-socket", plugins=plugins, error=1)
    assert "give pytest-socket --allow-unix-socket beside --disable-socket" in output


DJANGO: dict[str, str] = {}
DJANGO["site_/settings.py"] = """import os
SECRET_KEY="x"; DEBUG=False; ALLOWED_HOSTS=["*"]
INSTALLED_APPS=["django.contrib.contenttypes","django.contrib.auth","orders"]
DATABASES={"default":{"ENGINE":"django.db.backends.sqlite3","NAME":":memory:"}}
ROOT_URLCONF="site_.urls"; USE_TZ=True; DEFAULT_AUTO_FIELD="django.db.models.AutoField"
MIDDLEWARE=[]
CELERY_QUEUE=os.environ.get("TASK_QUEUE_URL")
"""
DJANGO["site_/urls.py"] = """from django.urls import path
from django.http import JsonResponse
from orders.models import Order
from orders.tasks import ship
def create(request, name):
    order = Order.objects.create(name=name)
    return JsonResponse({"order": order.pk, "id": ship.delay(order.pk).id})
urlpatterns=[path("orders/<name>", create)]
"""
DJANGO["orders/models.py"] = """from django.db import models
class Order(models.Model):
    name = models.CharField(max_length=20)
    shipped = models.BooleanField(default=False)
"""
DJANGO["orders/tasks.py"] = """from celery import shared_task
@shared_task
def ship(pk):
    from orders.models import Order
    Order.objects.filter(pk=pk).update(shipped=True)
"""
DJANGO["shop/functions.py"] = """import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
import django
django.setup()
from celery import Celery
from django.core.asgi import get_asgi_application
from twolane import ApiHandler, WorkerHandler
celery = Celery("shop")
celery.conf.update(
    task_default_queue="tasks", result_backend=os.environ.get("RESULT_BACKEND", "cache+memory://"),
    accept_content=["json"], broker_url="memory://",
)
if queue := os.environ.get("TASK_QUEUE_URL"):
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": queue}},
            "sqs_base64_encoding": False,
        },
    )
celery.autodiscover_tasks(["orders"])
api = ApiHandler(get_asgi_application(), lifespan="off")
worker = WorkerHandler(celery)
"""
DJANGO["orders/test_orders.py"] = """import pytest
from django.test import TestCase
from orders.models import Order

@pytest.mark.django_db
def test_alone():
    assert Order.objects.count() == 0

@pytest.mark.django_db(transaction=True)
def test_ships(twolane):
    answer = twolane.client.get("/orders/ann")
    assert answer.status_code == 200, answer.text
    assert twolane.deferred.run() == 1
    assert Order.objects.get(pk=answer.json()["order"]).shipped
"""


@pytest.mark.slow
def test_beside_pytest_django(sessions: Sessions) -> None:
    sessions.write({**DJANGO, "site_/__init__.py": "", "orders/__init__.py": "",
                    "shop/__init__.py": ""})  # fmt: skip
    sessions.write({"template.yaml": TEMPLATE.replace("CODE_URI", ".")})
    settings = "DJANGO_SETTINGS_MODULE = site_.settings\n"
    sessions.write({"pytest.ini": f"[pytest]\npythonpath = .\n{settings}"})
    output = sessions.run(plugins=("pytest_django.plugin",), passed=1, error=1)
    assert "Django has loaded the models of orders before the stack gave" in output
    # Its settings are read after the template's variables are there.
    sessions.write({"pytest.ini": CONFIGURED + settings})
    sessions.run(plugins=("pytest_django.plugin",), passed=2)
