"""An execution environment as a process of its own: handles the events that it reads, one a line.

Its tasks count their runs in Redis, and tell there when they have begun.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from celery import Celery

from twolane import WorkerHandler


class Context:
    aws_request_id = "r1"

    def __init__(self, timeout_s: float) -> None:
        self._until = time.monotonic() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        return int((self._until - time.monotonic()) * 1000)


def make_app(redis_url: str) -> Celery:
    app = Celery("processes", backend=redis_url, set_as_current=False)
    app.conf.update(broker_url="sqs://", task_default_queue="tasks")

    def client() -> Any:
        return app.backend.client  # type: ignore[attr-defined]

    @app.task(shared=False, name="count")
    def count(name: str) -> None:
        client().incr(f"ran:{name}")
        threading.Event().wait(0.05)  # long enough for another process to meet it

    @app.task(shared=False, name="hang_once", acks_late=True)
    def hang_once(name: str) -> None:
        if client().incr(f"ran:{name}") == 1:
            client().rpush(f"hangs:{name}", "1")
            threading.Event().wait(60)

    return app


class NoQueues:
    def send(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be sent")

    def change_visibility(self, *_: Any) -> None:
        """The test delivers again when it wants to."""


def main() -> None:
    options = json.loads(sys.argv[1])
    handler = WorkerHandler(
        make_app(options["redis"]),
        queues=NoQueues(),
        clock=lambda: time.time() + options.get("ahead_s", 0.0),
    )
    print("ready", flush=True)  # noqa: T201 - the test waits for it
    for line in sys.stdin:
        answer = handler(json.loads(line), Context(options.get("timeout_s", 30.0)))
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
