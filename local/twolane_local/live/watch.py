"""What happens in a running emulator and its Redis, as the facts that the invariants read."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from twolane_local.faults.queues import task_id_of, task_name_of
from twolane_local.simulator.facts import Fact, History
from twolane_local.simulator.invariants import Bounds, Violation, violations

if TYPE_CHECKING:
    from twolane_local.emulator import Emulator

RESULT = "celery-task-meta-"


class LiveWatch:
    """Watches one emulator from its start.

    ``client`` is redis-py's, to the emulator's Redis. Results are heard on the channels on which
    Celery publishes each change of a task's state;
    effects are what the application has pushed to ``effects_key`` as JSON: ``{"task", "lease",
    "holder", "at"}``.
    """

    def __init__(self, emulator: Emulator, client: Any, *, effects_key: str = "effects") -> None:
        self._emulator, self._client, self._effects = emulator, client, effects_key
        self.history = History()
        self._lock = threading.Lock()
        emulator.journal.subscribe(self._heard)
        self._channel = client.pubsub(ignore_subscribe_messages=True)
        self._channel.psubscribe(**{f"*{RESULT}*": self._changed})
        self._thread: Any = self._channel.run_in_thread(sleep_time=0.02, daemon=True)

    def _heard(self, event: Any) -> None:
        with self._lock:
            self.history.heard(event)
            if event.kind == "message.sent" and event.queue is not None:
                self._taken(event)

    def _taken(self, event: Any) -> None:
        for entry in self._emulator.queues.refreshed(event.queue):
            if entry.message.id == event.message_id:
                body = entry.message.body
                data = {"body": body, "name": task_name_of(body)}
                self.history.add(
                    Fact(event.at, "body.taken", task_id_of(body), event.message_id,
                         event.queue, data=data)
                )  # fmt: skip

    def _changed(self, message: dict[str, Any]) -> None:
        value = json.loads(message["data"])
        fact = Fact(
            self._emulator.clock.time(), "result.changed", str(value["task_id"]),
            data={"status": value["status"]},
        )  # fmt: skip
        with self._lock:
            self.history.add(fact)

    def acknowledged(self, task: str) -> None:
        """A publisher was told that its task is on its queue."""
        with self._lock:
            self.history.add(Fact(self._emulator.clock.time(), "enqueue.acknowledged", task))

    def faults_ended(self) -> None:
        """From here on the drain is timed."""
        with self._lock:
            self.history.add(Fact(self._emulator.clock.time(), "faults.ended"))

    def close(self) -> None:
        """Watch Redis no more."""
        self._thread.stop()
        self._thread.join(5)
        self._channel.close()

    def violations(self, bounds: Bounds, queues: tuple[str, ...], dead: str) -> list[Violation]:
        """Count what is left and judge; nothing is watched after this."""
        self.close()
        now = self._emulator.clock.time()
        for text in self._client.lrange(self._effects, 0, -1):
            value = json.loads(text)
            lease = {"lease": value.get("lease"), "holder": value.get("holder")}
            self.history.add(
                Fact(value.get("at", now), "effect.committed", value["task"], data=lease)
            )
        for queue in (dead, *queues):
            kind = "dead.letter" if queue == dead else "left.over"
            for entry in self._emulator.queues.refreshed(queue):
                message = entry.message
                self.history.add(
                    Fact(now, kind, task_id_of(message.body), message.id, queue,
                         data={"body": message.body})
                )  # fmt: skip
        self.history.add(Fact(now, "run.ended"))
        return violations(self.history, bounds)
