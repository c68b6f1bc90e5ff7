"""Celery's own consumer, with no bootsteps and never started.

``Consumer.create_task_handler()`` is the code that a ``celery worker`` runs for each message:
strategy, request, tracer, acknowledgement rules, expiry, revocation, events and signals are
Celery's. The pool (``twolane.worker.pool``), the timer and the controller are ours; a message is
acknowledged on its run (``twolane.worker.records``).

The timer starts nothing by itself. Celery passes an ETA in *monotonic* time. The worker empties the
timer after each message: an entry that is due runs, any other is deferred to SQS.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from celery.app import trace
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer

from twolane.errors import ConfigurationError
from twolane.patches.clients import guard
from twolane.patches.coroutines import (
    awaiting_tracer,
    can_await,
    is_coroutine_task,
    own_stacks,
    prepare,
    refuse_generators,
)
from twolane.worker.pool import guard_body
from twolane.worker.records import Outcome, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celery import Celery
    from celery.app.task import Task
    from kombu.message import Message

    from twolane.worker.concurrency import SideBySide
    from twolane.worker.pool import Pool


class NoPrefetch:
    """In the place of kombu's prefetch count: SQS hands over whole batches."""

    value = 0

    def increment_eventually(self, n: int = 1) -> None:
        """Nothing is prefetched."""

    def decrement_eventually(self, n: int = 1) -> None:
        """Nothing is prefetched."""


class Awaits(dict[str, bool]):
    """Task name → ``True`` for a coroutine task, which goes beside others."""

    def __init__(self, app: Celery) -> None:
        super().__init__()
        self._app = app

    def __missing__(self, name: str) -> bool:
        task: Any = dict.get(self._app.tasks, name)
        if task is None:  # it may be registered later
            return False
        self[name] = is_coroutine_task(task) and can_await()
        return self[name]


class LazyStrategies(dict[str, Any]):
    """Strategy and tracer of a task, built when its first message comes: a cold start pays for the
    tasks that it runs only, and a task that is registered later runs as well.
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
        task.__trace__ = self._tracer(name, task)
        self[name] = strategy
        return strategy

    def _tracer(self, name: str, task: Any) -> Callable[..., Any]:
        consumer = self._consumer
        options: dict[str, Any] = {
            "loader": consumer.app.loader, "hostname": consumer.hostname, "app": consumer.app,
        }  # fmt: skip
        task.run = refuse_generators(task)
        if consumer.awaits[name]:
            return awaiting_tracer(name, task, lambda one: consumer.several().enter(one), **options)
        if consumer.pool.threads:
            own_stacks(task)
        if is_coroutine_task(task):
            prepare(task)
        guard_body(task, lambda one: consumer.several().drive(one))
        # Looked up now: Sentry and other monitors replace it as they are set up.
        return trace.build_tracer(name, task, **options)


class Controller:
    """The part of Celery's ``WorkController`` that a consumer, its remote control and Celery's
    fix-up for Django look at: it keeps a pool of database connections unless the pool is prefork's.
    """

    state = worker_state
    semaphore = None
    autoscaler = None
    use_eventloop = False

    def __init__(self, app: Celery, hostname: str, pool: Pool) -> None:
        self.app = app
        self.hostname = hostname
        self.pool = pool
        self.pool_cls = type(pool)
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
        pool: Pool,
        timer: Timer,
        on_task_request: Callable[[Any], object],
        several: Callable[[], SideBySide],
    ) -> None:
        """``several``: where coroutines run, made when there is one."""
        self.controller: Controller
        self.several = several
        self.awaits = Awaits(app)
        super().__init__(
            on_task_request,
            hostname=hostname,
            app=app,
            pool=pool,
            timer=timer,
            controller=Controller(app, hostname, pool),
            disable_rate_limits=app.conf.worker_disable_rate_limits,
        )
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
        run_of(message).outcome = Outcome.MALFORMED
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:
        run_of(message).outcome = Outcome.MALFORMED
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Message, exc: Exception) -> None:
        run_of(message).outcome = Outcome.MALFORMED
        super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        # Celery acknowledges what it cannot decode; here it stays for the dead-letter queue.
        run_of(message).outcome = Outcome.MALFORMED
        super().on_decode_error(message, exc)


def _at_once(_: object, args: tuple[Any], **__: Any) -> Any:
    """In the place of vine's promise around ``Message.ack_log_error`` or ``reject_log_error``,
    which is for an event loop and for a prefetch count after a lost connection: neither is here,
    and two of them a message cost as much as a no-op task.
    """
    return args[0]


@dataclass(slots=True, eq=False)
class Entry:
    """A call that waits; kombu's own entries have the same members."""

    at: float
    fun: Callable[..., object]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    canceled: bool = False

    def __call__(self) -> object:
        return self.fun(*self.args, **self.kwargs)

    def cancel(self) -> None:
        self.canceled = True


class Timer:
    """The part of kombu's timer that Celery's consumer and strategy use."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._entries: list[Entry] = []

    def call_at(
        self,
        eta: float,
        fun: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,  # noqa: ARG002 - kombu's signature
    ) -> Entry:
        entry = Entry(eta, fun, args, kwargs or {})
        self._entries.append(entry)
        return entry

    def call_after(
        self,
        secs: float,
        fun: Callable[..., object],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int = 0,
    ) -> Entry:
        return self.call_at(self._monotonic() + secs, fun, args, kwargs, priority)

    def call_repeatedly(self, *_: Any, **__: Any) -> NoReturn:
        """A strategy asks for it that collects messages over time, as celery-batches' does."""
        raise ConfigurationError(
            "its task class collects messages until a timer comes, as celery-batches does. No "
            "worker lives on between two batches here, to hold them: give the task a list, or "
            "keep a celery worker for its queue"
        )

    def cancel(self, entry: Entry) -> None:
        entry.cancel()

    def clear(self) -> None:
        self._entries.clear()

    def stop(self) -> None:
        self.clear()

    def take(self) -> list[tuple[float, Entry]]:
        """All entries with the seconds until each is due (zero or less: now); none is kept."""
        entries, self._entries = self._entries, []
        now = self._monotonic()
        return [(entry.at - now, entry) for entry in entries if not entry.canceled]
