from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from twolane.beat import BeatHandler
from twolane.state.memory import MemoryStore

_NUMBERS = itertools.count()


class Bench:
    """Real Celery on kombu's in-memory transport, a state store, and a clock that a test sets."""

    def __init__(self) -> None:
        self.now = self.instant("2026-01-01T00:00:00Z")
        self.store = MemoryStore(lambda: self.now)

    @staticmethod
    def instant(text: str) -> float:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()

    def app(self, schedule: dict[str, Any] | None = None, **conf: Any) -> Celery:
        """An app with two queues of its own, the second named like the first with ``-slow``."""
        queue = f"beat-{next(_NUMBERS)}"
        app = Celery("shop", set_as_current=False)
        app.conf.update(
            broker_url="memory://",
            result_backend="cache+memory://",
            task_default_queue=queue,
            task_queues=[Queue(queue), Queue(f"{queue}-slow", routing_key=f"{queue}-slow")],
            beat_schedule=schedule or {},
            **conf,
        )

        @app.task(name="shop.report", shared=False)
        def report(*args: Any, **kwargs: Any) -> None: ...

        return app

    def handler(self, app: Celery, **options: Any) -> BeatHandler:
        return BeatHandler(app, store=self.store, clock=lambda: self.now, **options)

    def tick(self, handler: BeatHandler, at: str, *, late_s: float = 0) -> list[tuple[str, str]]:
        """Send one tick, ``late_s`` after its time; the (entry, slot) pairs that it published."""
        self.now = self.instant(at) + late_s
        answer = handler(self.event(at), None)
        return [(each["entry"], each["slot"]) for each in answer["published"]]

    @staticmethod
    def event(at: str) -> dict[str, Any]:
        """What EventBridge Scheduler sends to a function where the schedule has no input."""
        return {
            "version": "0",
            "id": "49672d39-8c3a-4cc6-8de5-c57b0acf718f",
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": "123456789012",
            "time": at,
            "region": "us-east-1",
            "resources": ["arn:aws:scheduler:us-east-1:123456789012:schedule/default/tick"],
            "detail": "{}",
        }

    @staticmethod
    def messages(app: Celery, suffix: str = "") -> list[Any]:
        """Take every message off the app's queue, oldest first."""
        found = []
        with app.connection_for_read() as connection:
            queue = Queue(app.conf.task_default_queue + suffix)(connection.default_channel)
            queue.declare()
            while (message := queue.get(no_ack=True)) is not None:
                found.append(message)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()
