"""Packages that are used with Celery, as released, in a worker's process."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Serve  # noqa: TID252
    from .conftest import Ran

#: An application whose broker is kombu's memory, and what hands its messages to the worker.
SHOP = """
import itertools, os
from celery import Celery
from kombu import Queue

app = Celery("shop")
app.conf.update(
    broker_url="memory://", result_backend=os.environ.get("RESULTS", "cache+memory://"),
    task_default_queue="tasks",
)
numbers = itertools.count()

def waiting():
    with app.connection_for_write() as connection:
        queue = Queue("tasks")(connection.default_channel)
        queue.declare()
        while (message := queue.get(no_ack=True)) is not None:
            yield record(json.dumps({
                "body": message.body if isinstance(message.body, str) else message.body.decode(),
                "content-type": message.content_type,
                "content-encoding": message.content_encoding,
                "headers": message.headers,
                "properties": {**message.properties, "body_encoding": "utf-8"},
            }, default=str), f"m{next(numbers)}")

def worker():
    from twolane import WorkerHandler
    return WorkerHandler(app, queues=RecordedQueues(), environ={})
"""

ONCE = (
    SHOP
    + """
from celery_once import AlreadyQueued, QueueOnce
app.conf.ONCE = {"backend": "celery_once.backends.Redis",
                 "settings": {"url": os.environ["RESULTS"], "default_timeout": 600}}
ran = []

@app.task(base=QueueOnce, once={"keys": ["shop"]})
def stock(shop, day):
    ran.append(day)

@app.task(base=QueueOnce, once={"graceful": True}, bind=True, max_retries=1)
def flaky(self):
    ran.append(f"flaky {self.request.retries}")
    if not self.request.retries:
        raise self.retry(countdown=0)

handler = worker()
stock.delay(1, "monday")
try:
    stock.delay(1, "tuesday")
except AlreadyQueued:
    ran.append("already queued")
stock.delay(2, "wednesday")
flaky.delay(); flaky.delay()
while found := list(waiting()):
    assert handler(event(*found), Context()) == {"batchItemFailures": []}
stock.delay(1, "thursday")
flaky.delay()
while found := list(waiting()):
    handler(event(*found), Context())
say(ran=ran)
"""
)


def test_celery_once_keeps_a_second_task_off_the_queue_until_the_first_has_ended(
    script: Callable[..., Ran], redis_url: str
) -> None:
    flaky = ["flaky 0", "flaky 1"]
    assert script(ONCE, RESULTS=redis_url).said["ran"] == [
        "already queued", "monday", "wednesday", *flaky, "thursday", *flaky,
    ]  # fmt: skip


SINGLETON = (
    SHOP
    + """
from celery_singleton import Singleton
app.conf.singleton_backend_url = os.environ["RESULTS"]
ran = []

@app.task(base=Singleton)
def stock(shop):
    ran.append(shop)
    if shop == 2:
        raise ValueError("no")

handler = worker()
first, second, other = stock.delay(1), stock.delay(1), stock.delay(2)
say(same=first.id == second.id, other=other.id != first.id)
handler(event(*waiting()), Context())
third, fourth = stock.delay(1), stock.delay(2)
handler(event(*waiting()), Context())
say(ran=ran, third=third.id != first.id)
"""
)


def test_celery_singleton_gives_the_task_that_waits(
    script: Callable[..., Ran], redis_url: str
) -> None:
    said = script(SINGLETON, RESULTS=redis_url).said
    assert said == {"same": True, "other": True, "ran": [1, 2, 1, 2], "third": True}


BATCHES = (
    SHOP
    + """
from celery import Task
ran = []

class Collected(Task):
    # As celery-batches does it (0.11, which refuses Celery 5.7): a strategy with a timer.
    def Strategy(self, task, app, consumer):
        def handle(message, body, ack, reject, callbacks, **kwargs):
            consumer.timer.call_repeatedly(30, lambda: None)
        return handle

@app.task(base=Collected)
def count(requests):
    ran.append(len(requests))

@app.task
def add(x, y):
    ran.append(x + y)

handler = worker()
count.delay("a"); add.delay(1, 2)
say(answer=handler(event(*waiting()), Context()), ran=ran)
"""
)


def test_a_task_that_collects_messages_over_time_says_why_it_does_not_run(
    script: Callable[..., Ran],
) -> None:
    ran = script(BATCHES)
    assert ran.said["answer"] == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert ran.said["ran"] == [3], "the others of the batch run"
    assert "count cannot run: its task class collects messages until a timer comes" in ran.output
    assert "Traceback" not in ran.output


class Ingest:
    """Sentry's side: what reached it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.came = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                outer.came.set()

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        self.handler = Handler


SENTRY = (
    SHOP
    + """
from twolane import ApiHandler, WorkerHandler  # imported before Sentry is set up
WorkerHandler
import sentry_sdk
import threading
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import HttpTransport

class FarAway(HttpTransport):
    def _send_request(self, *args, **kwargs):
        threading.Event().wait(0.3)
        super()._send_request(*args, **kwargs)

sentry_sdk.init(
    os.environ["DSN"], transport=FarAway, integrations=[CeleryIntegration()],
    traces_sample_rate=1.0, default_integrations=False, auto_enabling_integrations=False,
    http_proxy="", _experiments={}, send_client_reports=False,
)

@app.task
def charge(amount):
    raise ValueError(f"card refused {amount}")

handler = worker()
with sentry_sdk.start_transaction(name="checkout") as transaction:
    charge.delay(42)
    say(trace=transaction.trace_id)
handler(event(*waiting()), Context())
sys.stdout.flush()
os._exit(0)  # Lambda freezes the environment here, perhaps for good
"""
)


def test_sentry_has_a_tasks_error_before_the_environment_freezes(
    script: Callable[..., Ran], serve: Serve
) -> None:
    ingest = Ingest()
    with serve(ingest.handler) as address:
        ran = script(
            SENTRY, DSN=f"http://key@{address}/1", PYTHONUNBUFFERED="1", no_proxy="*", NO_PROXY="*"
        )
    text = b"\n".join(_plain(body) for body in ingest.bodies).decode()
    assert "card refused 42" in text
    assert '"celery_task_id"' in text
    assert text.count(ran.said["trace"]) >= 2, "the task continues the publisher's trace"
    assert '"op":"queue.task.celery"' in text.replace(" ", "")


def _plain(body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


OTEL = (
    SHOP
    + """
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
CeleryInstrumentor().instrument()

@app.task
def charge(amount):
    with trace.get_tracer("shop").start_as_current_span("card"):
        raise ValueError("refused")

handler = worker()
with trace.get_tracer("shop").start_as_current_span("checkout"):
    charge.delay(42)
handler(event(*waiting()), Context())
say(spans=[[span.name, span.kind.name, f"{span.context.trace_id:x}",
            span.parent and f"{span.parent.span_id:x}", f"{span.context.span_id:x}",
            span.status.status_code.name] for span in exporter.get_finished_spans()])
os._exit(0)
"""
)


def test_opentelemetrys_spans_are_sent_before_the_environment_freezes(
    script: Callable[..., Ran],
) -> None:
    spans = {span[0]: span for span in script(OTEL).said["spans"]}
    assert set(spans) == {
        "checkout", "apply_async/shop.charge", "run/shop.charge", "card",
    }  # fmt: skip
    assert len({span[2] for span in spans.values()}) == 1, "one trace"
    run, published = spans["run/shop.charge"], spans["apply_async/shop.charge"]
    assert run[1] == "CONSUMER"
    assert run[3] == published[4], "the run's parent is the publish"
    assert spans["card"][3] == run[4]
    assert run[5] == "ERROR"


OTHERS = (
    SHOP
    + """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from twolane import ApiHandler, BeatHandler
from twolane.state.memory import MemoryStore
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")

def view(environ, start_response):
    with tracer.start_as_current_span("view"):
        start_response("200 OK", [])
    return [b"ok"]

class Store(MemoryStore):
    def get_many(self, keys):
        with tracer.start_as_current_span("tick"):
            return super().get_many(keys)

ApiHandler(view, environ={})({
    "version": "2.0", "rawPath": "/", "rawQueryString": "", "headers": {},
    "requestContext": {"http": {"method": "GET", "path": "/", "sourceIp": "203.0.113.7"}},
    "isBase64Encoded": False,
}, Context())
say(api=[span.name for span in exporter.get_finished_spans()])
BeatHandler(app, store=Store())({"detail": "{}"}, Context())
say(beat={span.name for span in exporter.get_finished_spans()} >= {"view", "tick"})
os._exit(0)
"""
)


def test_requests_and_ticks_send_their_spans_as_well(script: Callable[..., Ran]) -> None:
    said = script(OTHERS).said
    assert said["api"] == ["view"]
    assert said["beat"] is True
