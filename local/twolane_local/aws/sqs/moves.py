"""Message move tasks, which redrive a dead-letter queue, at a rate, until it is empty.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.actions import Params, integer, required
from twolane_local.aws.sqs.errors import (
    InvalidParameterValueError,
    QueueDoesNotExistError,
    ResourceNotFoundError,
    SqsError,
)
from twolane_local.model.states import VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.sqs.queue import Queue
    from twolane_local.aws.sqs.service import QueueService


#: Without a rate AWS chooses one. Here so many messages move before other work gets its turn.
CHUNK = 100
#: The tasks that are listed, at most.
KEPT = 100


@dataclass
class _MoveTask:
    id: str
    source: Queue
    target: Queue | None
    rate: int | None
    to_move: int
    started_at: float
    status: str = "RUNNING"
    moved: int = 0
    failure: str | None = None

    @property
    def handle(self) -> str:
        inside = {"taskId": self.id, "sourceArn": self.source.arn}
        return base64.b64encode(json.dumps(inside).encode()).decode()

    def describe(self) -> dict[str, Any]:
        """The task as ListMessageMoveTasks returns it; with its handle only while it runs."""
        found = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source.arn,
            "DestinationArn": self.target.arn if self.target is not None else None,
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.failure,
            "StartedTimestamp": int(self.started_at * 1000),
        }
        return {key: value for key, value in found.items() if value is not None}


class MoveTasks:
    """The message move tasks of all queues, the most recent last."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues
        self._tasks: deque[_MoveTask] = deque(maxlen=KEPT)
        self._running: set[asyncio.Task[None]] = set()
        self.actions: dict[str, Callable[[Params], dict[str, Any]]] = {
            "StartMessageMoveTask": self.start,
            "CancelMessageMoveTask": self.cancel,
            "ListMessageMoveTasks": self.list,
        }

    def start(self, params: Params) -> dict[str, Any]:
        source = self._found(params, "SourceArn")
        target = self._found(params, "DestinationArn") if params.get("DestinationArn") else None
        rate = integer(params, "MaxNumberOfMessagesPerSecond", 1, 500)
        names = self._queues.names()
        if not any(self._queues.get(n).settings.dead_letter_arn == source.arn for n in names):
            raise InvalidParameterValueError(
                "Source queue must be configured as a Dead Letter Queue."
            )
        if target is not None and (target is source or target.fifo != source.fifo):
            raise InvalidParameterValueError(
                "The destination must be another queue, of the same type as the source."
            )
        if any(task.source is source and task.status == "RUNNING" for task in self._tasks):
            raise InvalidParameterValueError(
                "There is already a task running. Only one active task is allowed for a source "
                "queue arn at a given time."
            )
        to_move = self._queues.refreshed(source.name).count(VISIBLE)
        task = _MoveTask(
            str(uuid.uuid4()), source, target, rate, to_move, self._queues.clock.time()
        )
        self._tasks.append(task)
        running = asyncio.get_running_loop().create_task(self._run(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return {"TaskHandle": task.handle}

    def _found(self, params: Params, name: str) -> Queue:
        try:
            return self._queues.get_by_arn(required(params, name))
        except QueueDoesNotExistError:
            raise _no_such_resource(name) from None

    async def _run(self, task: _MoveTask) -> None:
        target = task.target.name if task.target is not None else None
        try:
            while task.status == "RUNNING":
                for _ in range(task.rate or CHUNK):
                    # Messages that arrive meanwhile are not moved, so that a task ends even if its
                    # messages fail again at once.
                    if task.moved >= task.to_move or (
                        self._queues.redrive_one(task.source.name, target) is None
                    ):
                        task.status = "COMPLETED"
                        return
                    task.moved += 1
                await self._queues.clock.sleep(1.0 if task.rate is not None else 0.0)
        except SqsError as error:
            task.status, task.failure = "FAILED", error.query_code
        if task.status == "CANCELLING":
            task.status = "CANCELLED"

    def cancel(self, params: Params) -> dict[str, Any]:
        task_id, source = _read_handle(required(params, "TaskHandle"))
        try:
            self._queues.get_by_arn(source)
        except QueueDoesNotExistError:
            raise _no_such_resource("SourceArn") from None
        for task in self._tasks:
            if task.id == task_id and task.status == "RUNNING":
                task.status = "CANCELLING"
                return {"ApproximateNumberOfMessagesMoved": task.moved}
        raise ResourceNotFoundError("Task does not exist.")

    def list(self, params: Params) -> dict[str, Any]:
        source = self._found(params, "SourceArn")
        most = integer(params, "MaxResults", 1, 10) or 1
        found = [task.describe() for task in reversed(self._tasks) if task.source is source]
        return {"Results": found[:most]}


def _read_handle(handle: str) -> tuple[str, str]:
    """The task's id and its source."""
    try:
        inside = json.loads(base64.b64decode(handle, validate=True))
        return str(inside["taskId"]), str(inside["sourceArn"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidParameterValueError("Value for parameter TaskHandle is invalid.") from None


def _no_such_resource(parameter: str) -> ResourceNotFoundError:
    return ResourceNotFoundError(
        f"The resource that you specified for the {parameter} parameter doesn't exist."
    )
