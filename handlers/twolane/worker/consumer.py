"""Celery's own consumer, with no bootsteps and never started.

``Consumer.create_task_handler()`` is the code that a ``celery worker`` runs for each message:
strategy, request, tracer, acknowledgement rules, expiry, revocation, events and signals are
Celery's. What is ours is around it: a channel, a timer, a pool and a controller.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from celery.app.trace import build_tracer
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer

from twolane.worker import body
from twolane.worker.channel import Channel, Outcome
from twolane.worker.outage import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.app.task import Task
    from kombu.message import Message

    from twolane.worker.pool import Pool
    from twolane.worker.timer import Timer


class NoPrefetch:
    """In the place of kombu's prefetch count: SQS hands over whole batches."""

    value = 0

    def increment_eventually(self, n: int = 1) -> None:
        """Nothing is prefetched."""

    def decrement_eventually(self, n: int = 1) -> None:
        """Nothing is prefetched."""


class LazyStrategies(dict[str, Any]):
    """Strategy and tracer of a task, built when its first message comes.

    A cold start pays for the tasks that it runs; and a task that is registered later, which a stock
    worker would not know how to trace, runs as well.
    """

    def __init__(self, consumer: TaskConsumer) -> None:
        super().__init__()
        self._consumer = consumer

    def __missing__(self, name: str) -> Any:
        consumer = self._consumer
        task: Task[..., Any] = consumer.app.tasks[name]
        own: Any = task
        if own._backend is not None:  # noqa: SLF001 - the application's has its guard already
            guard(own.backend)
        strategy = task.start_strategy(consumer.app, consumer)
        body.guard(task)
        task.__trace__ = build_tracer(
            name, task, consumer.app.loader, consumer.hostname, app=consumer.app
        )
        self[name] = strategy
        return strategy


class Controller:
    """The part of Celery's ``WorkController`` that a consumer and its remote control look at."""

    state = worker_state
    semaphore = None
    autoscaler = None
    use_eventloop = False

    def __init__(self, app: Celery, hostname: str, pool: Pool) -> None:
        self.app = app
        self.hostname = hostname
        self.pool = pool
        self._started = time.monotonic()

    def rename(self, hostname: str) -> None:
        """Be another node, that starts now."""
        self.hostname = hostname
        self._started = time.monotonic()

    def stats(self) -> dict[str, Any]:
        """The fields of ``inspect stats`` that mean something in an execution environment."""
        return {
            "total": dict(worker_state.total_count),
            "pid": os.getpid(),
            "clock": str(self.app.clock),  # type: ignore[attr-defined]
            "uptime": round(time.monotonic() - self._started),
            "pool": self.pool.info,
            "prefetch_count": 0,
        }


class TaskConsumer(Consumer):
    """Celery's consumer, fed by ``receive``; what Celery would drop is marked instead."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """No steps: nothing connects, nothing polls, nothing beats."""

        default_steps = ()

        def __init__(self, steps: Any = None, **options: Any) -> None:  # noqa: ARG002
            # An application's own consumer steps need a running worker; see docs/semantics.md.
            super().__init__(steps=(), **options)

    event_dispatcher: Any = None
    task_consumer = None

    def __init__(
        self,
        app: Celery,
        *,
        hostname: str,
        channel: Channel,
        pool: Pool,
        timer: Timer,
        on_task_request: Callable[[Any], object],
    ) -> None:
        self.controller: Controller
        super().__init__(
            on_task_request,
            hostname=hostname,
            app=app,
            pool=pool,
            timer=timer,
            controller=Controller(app, hostname, pool),
            disable_rate_limits=app.conf.worker_disable_rate_limits,
        )
        self.channel = channel
        self.qos = NoPrefetch()
        self.strategies = LazyStrategies(self)
        at_once: Any = _at_once
        self.receive: Callable[[Message], object] = self.create_task_handler(promise=at_once)

    def rename(self, hostname: str) -> None:
        """Be another node; tracers have the name and the result backend in them."""
        self.hostname = hostname
        self.controller.rename(hostname)
        self.strategies.clear()

    def on_unknown_message(self, body: Any, message: Message) -> None:
        self.channel.mark(_tag(message), Outcome.MALFORMED)
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        self.channel.mark(_tag(message), Outcome.MALFORMED)
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        self.channel.mark(_tag(message), Outcome.MALFORMED)
        super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        # Celery acknowledges what it cannot decode; here it stays for the dead-letter queue.
        self.channel.mark(_tag(message), Outcome.MALFORMED)
        super().on_decode_error(message, exc)


def _at_once(_: object, args: tuple[Any], **__: Any) -> Any:
    """In the place of vine's promise around ``Message.ack_log_error`` or ``reject_log_error``.

    A promise is for an event loop, and for a prefetch count that is put right once a connection was
    lost; here there is neither, and two of them a message cost as much as the no-op task itself.
    """
    return args[0]


def _tag(message: Message) -> str:
    return str(message.delivery_tag)
