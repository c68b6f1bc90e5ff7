from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from twolane import otel

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    yield exporter
    for signal in SIGNALS:
        signal.disconnect(dispatch_uid=otel._STATE)
    provider.shutdown()


@pytest.fixture
def celery() -> Iterator[Celery]:
    celery = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)

    @celery.task(name="shop.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @celery.task(name="shop.fail", shared=False)
    def fail() -> None:
        raise ValueError("no such address")

    @celery.task(name="celery.ping", shared=False)
    def ping() -> str:
        return "pong"

    yield celery
    celery.close()


def spans(exported: InMemorySpanExporter, name: str) -> list[Any]:
    return [span for span in exported.get_finished_spans() if span.name == name]


def test_a_run_is_linked_to_its_publish_and_not_its_child(
    exported: InMemorySpanExporter, celery: Celery
) -> None:
    otel.install()
    otel.install()
    with start_worker(celery, perform_ping_check=False, pool="solo"):
        result = celery.tasks["shop.add"].delay(1, 2)
        failing = celery.tasks["shop.fail"].delay()
        assert result.get(timeout=10) == 3
        with pytest.raises(ValueError, match="no such address"):
            failing.get(timeout=10)
    (created,) = spans(exported, "create shop.add")
    (processed,) = spans(exported, "process shop.add")
    assert [link.context.span_id for link in processed.links] == [created.context.span_id]
    assert processed.context.trace_id != created.context.trace_id
    assert processed.parent is None
    assert (created.kind, processed.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    assert processed.attributes["messaging.message.id"] == result.id
    assert processed.attributes["messaging.destination.name"] == "celery"
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


def test_nobody_who_does_not_use_it_pays_for_it() -> None:
    program = """
import sys
from twolane.publish import install
install()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
