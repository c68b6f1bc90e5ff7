"""OpenTelemetry across the queue, as an extra: ``pip install twolane[otel]``.

Publishing a task makes a ``create`` span and puts its context (``traceparent``) on the message;
running it makes a ``process`` span with a *link* to that one. A link and not a parent: the request
is long answered when its task runs, and one batch serves many requests.
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/

``install()`` is called by the adapters where the SDK is loaded before them, as the AWS
Distro's Lambda layer does it, unless OpenTelemetry's own Celery instrumentation is there. It works
in a stock ``celery worker`` too. Nothing of OpenTelemetry is imported where nobody uses it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from celery import signals

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.trace import Tracer

_STATE = "twolane_otel"


def install_if_used() -> None:
    """Install where an SDK is loaded; that its API is loaded means nothing, FastAPI does that."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return
    if "opentelemetry.instrumentation.celery" in sys.modules:
        return
    install()


def install() -> None:
    """Make spans of every publish and every run of a task in this process. Idempotent.

    Raises ``ImportError`` where OpenTelemetry is not installed.
    """
    from opentelemetry import trace

    tracer = trace.get_tracer("twolane")
    _on_publish(tracer)
    _on_run(tracer)


def _on_publish(tracer: Tracer) -> None:
    from opentelemetry import propagate, trace

    def create(
        sender: Any = None,
        headers: dict[str, Any] | None = None,
        routing_key: str | None = None,
        **_: Any,
    ) -> None:
        if headers is None:
            return
        attributes = {
            "messaging.system": "celery",
            "messaging.operation.type": "create",
            "messaging.destination.name": routing_key or "",
            "messaging.message.id": str(headers.get("id") or ""),
        }
        span = tracer.start_span(
            f"create {sender}", kind=trace.SpanKind.PRODUCER, attributes=attributes
        )
        propagate.inject(headers, trace.set_span_in_context(span))
        # The span is the making of the message: when the batch leaves is the client's span.
        span.end()

    signals.before_task_publish.connect(create, weak=False, dispatch_uid=_STATE)


def _on_run(tracer: Tracer) -> None:
    from opentelemetry import context, propagate, trace

    def begin(task_id: str = "", task: Any = None, **_: Any) -> None:
        carried = propagate.extract(task.request, context.Context(), _getter())
        creator = trace.get_current_span(carried).get_span_context()
        info = task.request.delivery_info or {}
        span = tracer.start_span(
            f"process {task.name}",
            kind=trace.SpanKind.CONSUMER,
            links=[trace.Link(creator)] if creator.is_valid else [],
            attributes={
                "messaging.system": "celery",
                "messaging.operation.type": "process",
                "messaging.destination.name": str(info.get("routing_key") or ""),
                "messaging.message.id": task_id,
                "celery.retries": task.request.retries or 0,
            },
        )
        token = context.attach(trace.set_span_in_context(span))
        setattr(task.request, _STATE, (span, token))

    def went_wrong(sender: Any = None, exception: Any = None, reason: Any = None, **_: Any) -> None:
        span, _token = getattr(sender.request, _STATE, (None, None))
        cause = exception if exception is not None else reason
        if span is not None and isinstance(cause, BaseException):
            span.record_exception(cause)
            span.set_status(trace.Status(trace.StatusCode.ERROR, type(cause).__name__))

    def end(task: Any = None, **_: Any) -> None:
        begun = getattr(task.request, _STATE, None)
        if begun is not None:
            span, token = begun
            context.detach(token)
            span.end()

    for signal, receiver in (
        (signals.task_prerun, begin),
        (signals.task_failure, went_wrong),
        (signals.task_retry, went_wrong),
        (signals.task_postrun, end),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=_STATE)


def _getter() -> Getter[Any]:
    """Reads a message's headers off Celery's request, where each is an attribute."""
    from opentelemetry.propagators.textmap import Getter

    class RequestGetter(Getter[Any]):
        def get(self, carrier: Any, key: str) -> list[str] | None:
            found = getattr(carrier, key, None)
            return [found] if isinstance(found, str) else None

        def keys(self, carrier: Any) -> list[str]:
            return list(vars(carrier))

    return RequestGetter()
