"""Writes into a journal what the emulator and the runtime write, over a real queue."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.faults.seams import FaultyQueues
from twolane_local.journal.messages import task_message

if TYPE_CHECKING:
    from twolane_local.journal import Journal

    from .conftest import HandClock


class Narrator:
    """Writes events into a journal as the emulator and the runtime do, over a real queue."""

    def __init__(self, clock: HandClock, journal: Journal) -> None:
        self.clock, self.journal = clock, journal
        self.queues = FaultyQueues(clock, journal, rng=random.Random(7))
        self.queues.create("dead")
        arn = "arn:aws:sqs:us-east-1:123456789012:dead"
        dead = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
        self.queues.create("tasks", {"RedrivePolicy": dead, "VisibilityTimeout": "30"})
        self._batches = 0

    def request(self, name: str = "request-0", status: int | None = 202) -> None:
        """A request that is answered at once, unless ``status`` is ``None``."""
        record = self.journal.record
        record("request.received", request_id=name, method="POST", path="/x", query="",
               headers=(("accept", "*/*"),), body=b"{}")  # fmt: skip
        record("invocation.started", function="Api", request_id=name, cold=True, payload=b"{}")
        self.clock.now += 0.02
        if status is not None:
            record("invocation.responded", function="Api", request_id=name, error=None,
                   payload=b"{}", durationMs=20.0)  # fmt: skip
            record("request.answered", function="Api", request_id=name, status=status,
                   method="POST", path="/x", durationMs=20.0, headers=(), body=b"{}")  # fmt: skip

    def done(self, name: str = "request-0") -> None:
        """The request's invocation ends."""
        self.journal.record("invocation.ended", function="Api", request_id=name, durationMs=25.0,
                            billedMs=25, memoryMb=128, maxMemoryMb=60)  # fmt: skip

    def publish(
        self, task: str, *, origin: str = "request-0", delay: int | None = None, **options: Any
    ) -> str:
        """A task's message is on its queue; its id."""
        _, body = task_message("app.send", ["a@example.com"], task_id=task, **options)
        message = self.queues.send("tasks", NewMessage(body, delay_s=delay))
        self.journal.record(
            "task.published", function="Api", request_id=origin, task_id=task, queue="tasks",
            message_id=message.id, taskName="app.send",
        )  # fmt: skip
        return message.id

    def receive(self) -> Any:
        """A batch of one goes to the worker."""
        (received,) = self.queues.receive("tasks")
        self._batches += 1
        self.batch = f"batch-{self._batches:08d}"
        self.journal.record("batch.invoked", function="Worker", queue="tasks",
                            request_id=self.batch, messageIds=[received.message.id])  # fmt: skip
        self.journal.record("invocation.started", function="Worker", request_id=self.batch,
                            cold=self._batches == 1, payload=b"{}")  # fmt: skip
        return received

    def task(self, kind: str, task: str, received: Any, **data: Any) -> None:
        """The worker tells of a task."""
        self.clock.now += 0.1
        self.journal.record(
            f"task.{kind}", function="Worker", request_id=self.batch, task_id=task, queue="tasks",
            message_id=received.message.id, taskName="app.send", originRequestId="request-0",
            **data,
        )  # fmt: skip

    def log(self, task: str, message: str, **data: Any) -> None:
        """The worker logs something about a task."""
        self.journal.record("log", function="Worker", request_id=self.batch, task_id=task,
                            message=message, originRequestId="request-0", **data)  # fmt: skip

    def end(self, received: Any, *, delete: bool) -> None:
        """The batch's invocation is over."""
        self.journal.record("invocation.responded", function="Worker", request_id=self.batch,
                            error=None, payload=b"{}", durationMs=100.0)  # fmt: skip
        if delete:
            self.queues.delete("tasks", received.receipt_handle)
        self.journal.record("invocation.ended", function="Worker", request_id=self.batch,
                            durationMs=100.0, billedMs=100)  # fmt: skip

    def killed(self, *, answered: bool = False) -> None:
        """The batch's environment is killed, before its function has answered or after it."""
        self.clock.now += 0.4
        if not answered:
            self.journal.record(
                "invocation.responded", function="Worker", request_id=self.batch,
                error="Unhandled", payload=b'{"errorType": "Runtime.ExitError"}', durationMs=400.0,
            )  # fmt: skip
        self.journal.record(
            "invocation.ended", function="Worker", request_id=self.batch, durationMs=400.0,
            billedMs=400, memoryMb=128, maxMemoryMb=60,
            reason="the environment exited (signal: killed)",
        )  # fmt: skip
