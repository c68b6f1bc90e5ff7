from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, signals
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from twolane import WorkerHandler, otel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..conftest import RunPython  # noqa: TID252

SIGNALS = (
    signals.before_task_publish,
    signals.task_prerun,
    signals.task_failure,
    signals.task_retry,
    signals.task_postrun,
)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    disconnect()
    yield exporter
    disconnect()
    provider.shutdown()


def disconnect() -> None:
    """Where the SDK is loaded, as here, any test that installs the publisher installs this too."""
    for signal in SIGNALS:
        signal.disconnect(dispatch_uid=otel._STATE)


@pytest.fixture
def celery() -> Iterator[Celery]:
    celery = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)

    # kombu's memory queues are the process's: this one is nobody else's.
    celery.conf.task_default_queue = "otel"

    @celery.task(name="shop.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @celery.task(name="shop.fail", shared=False)
    def fail() -> None:
        raise ValueError("no such address")

    yield celery
    celery.close()


def take(celery: Celery, count: int) -> list[str]:
    """What lies on the queue, as SQS would hold it."""
    with celery.connection_for_read() as connection:
        channel: Any = connection.default_channel
        return [json.dumps(channel._get("otel")) for _ in range(count)]


def event(bodies: list[str]) -> dict[str, Any]:
    arn = "arn:aws:sqs:us-east-1:123456789012:otel"
    return {
        "Records": [
            {
                "messageId": f"m-{number}",
                "receiptHandle": f"r-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def spans(exported: InMemorySpanExporter, name: str) -> list[Any]:
    return [span for span in exported.get_finished_spans() if span.name == name]


def test_a_run_is_linked_to_its_publish_and_not_its_child(
    exported: InMemorySpanExporter, celery: Celery
) -> None:
    otel.install()
    otel.install()
    result = celery.tasks["shop.add"].delay(1, 2)
    celery.tasks["shop.fail"].delay()
    WorkerHandler(celery)(event(take(celery, 2)))
    assert result.get(timeout=10) == 3
    (created,) = spans(exported, "create shop.add")
    (processed,) = spans(exported, "process shop.add")
    assert [link.context.span_id for link in processed.links] == [created.context.span_id]
    assert processed.context.trace_id != created.context.trace_id
    assert processed.parent is None
    assert (created.kind, processed.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    assert processed.attributes["messaging.message.id"] == result.id
    assert processed.attributes["messaging.destination.name"] == "otel"
    (failed,) = spans(exported, "process shop.fail")
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.events[0].attributes["exception.message"] == "no such address"


def test_an_sdk_that_is_loaded_is_used_and_celerys_own_instrumentation_comes_first(
    exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[bool] = []
    monkeypatch.setattr(otel, "install", lambda: installed.append(True))
    otel.install_if_used()
    assert installed == [True]
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.celery", object())
    otel.install_if_used()
    assert installed == [True]


def test_nobody_who_does_not_use_it_pays_for_it(run_python: RunPython) -> None:
    program = """
import sys
from twolane.publish import install
install()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    run_python(program)
