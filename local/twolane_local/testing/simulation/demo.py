"""The demonstration application, as a run drives it: ``handlers/app`` with nothing changed in it.

Its effect is a mail that goes out: ``app.mail.deliver``, which is watched, not replaced.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from celery import _state as celery_state

from twolane_local.model import ScheduleSpec
from twolane_local.testing.project import queue_url
from twolane_local.testing.simulation.simulator import (
    QUEUE,
    REDIS,
    RESULTS,
    Application,
    Function,
    Slot,
)
from twolane_local.testing.virtual_environment import hushed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.testing.simulation.simulator import Simulation

#: 2026-01-01T06:57:00Z: three ticks before the daily digest.
START = 1_767_250_620.0
DIGEST_AT = START + 180
READER = "reader@example.com"

#: What template.yaml gives the functions, and the queue.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "simulated",
    "AWS_SECRET_ACCESS_KEY": "simulated",
    "AWS_REGION": "us-east-1",
    "TASK_QUEUE_URL": queue_url(QUEUE),
    "RESULT_BACKEND": RESULTS[REDIS],
    "REDIS_URL": RESULTS[REDIS],
    "DIGEST_RECIPIENTS": READER,
    "MAILER": "log",
}
_QUEUE = {"VisibilityTimeout": "360", "MessageRetentionPeriod": "1209600"}
_TIMEOUTS = {"api": 30.0, "worker": 60.0, "beat": 30.0}


@contextmanager
def demo(root: Path | None = None) -> Iterator[Application]:
    """The application, imported anew from ``root`` (by default, as Python finds it) meanwhile."""
    cleared = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_LAMBDA_RUNTIME_API",
                "AWS_LAMBDA_FUNCTION_NAME", "CLAIM_CHECK_BUCKET",
               "API_KEY_SHA256", "NOTIFY_FAILURE_RATE")  # fmt: skip
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _ours(name)}
    with (
        mock.patch.dict(os.environ, ENVIRONMENT),
        mock.patch.object(sys, "path", list(sys.path)),
        hushed(),
    ):
        for name in cleared:
            os.environ.pop(name, None)
        if root is not None:
            sys.path.insert(0, str(root))
        # Celery offers an application's tasks to every later one, under the same names.
        shared: set[Any] = vars(celery_state)["_on_app_finalizers"]
        known = set(shared)
        application, kept = _application()
        # What is loaded now stays: not looking through it on each collection saves a fifth.
        gc.collect()
        gc.freeze()
        try:
            yield application
        finally:
            gc.unfreeze()
            kept.close()
            shared.intersection_update(known)
            for name in [name for name in sys.modules if _ours(name)]:
                del sys.modules[name]
            sys.modules.update(before)


def _ours(name: str) -> bool:
    return name == "app" or name.startswith("app.")


def _application() -> tuple[Application, Kept]:
    from twolane import ApiHandler, BeatHandler, WorkerHandler
    from twolane.beat.entries import task_id

    api = importlib.import_module("app.api")
    tasks = importlib.import_module("app.tasks")
    celery = tasks.celery
    kept = Kept(lambda: ApiHandler(api.app))
    api.handler.close()
    makers: dict[str, Callable[[Callable[[], float]], Any]] = {
        "api": lambda _: kept.take(),
        "worker": lambda clock: WorkerHandler(celery, clock=clock),
        "beat": lambda clock: BeatHandler(celery, clock=clock),
    }
    # As in template.yaml: retries and chains come back to the worker as often as they like.
    functions = {
        name: Function(
            name, makers[name], _TIMEOUTS[name],
            recursive_loop="Allow" if name == "worker" else "Terminate",
        )
        for name in makers
    }  # fmt: skip
    functions["api"] = replace(functions["api"], unmake=kept.give_back)

    def slots(begin: float, end: float) -> list[Slot]:
        if not begin < DIGEST_AT <= end:
            return []
        identity = task_id(celery, "daily-digest", DIGEST_AT)
        return [Slot("daily-digest", DIGEST_AT, identity, "app.tasks.daily_digest")]

    tick = ScheduleSpec(
        "tick", "cron(* * * * ? *)", "arn:aws:lambda:us-east-1:123456789012:function:beat"
    )
    application = Application(
        celery=celery,
        functions=functions,
        root=Path(str(api.__file__)).parent.parent,
        start=START,
        watched=_watched,
        slots=slots,
        schedules=(tick,),
        queue_attributes=_QUEUE,
    )
    return application, kept


class Kept:
    """Handlers with a loop and threads of their own, for one run after the other."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._free: list[Any] = []
        self._broken: list[Any] = []

    def take(self) -> Any:
        """One that nobody uses, or a new one."""
        return self._free.pop() if self._free else self._make()

    def give_back(self, handler: Any, intact: bool) -> None:
        """It may serve again, unless it was cut off in the middle."""
        (self._free if intact else self._broken).append(handler)

    def close(self) -> None:
        """End all of them; no event loop may run in this thread."""
        for handler in (*self._free, *self._broken):
            handler.close()


@contextmanager
def _watched(simulation: Simulation) -> Iterator[None]:
    mail = sys.modules["app.mail"]
    deliver = mail.deliver

    def delivered(email: str, message: str, *, attempt: int = 0) -> None:
        deliver(email, message, attempt=attempt)
        from celery import current_task

        identity = getattr(current_task.request, "id", None) if current_task else None
        if identity is not None:  # the inline lane's is not covered by a lease
            simulation.effect(str(identity), f"mail to {email}")

    with mock.patch.object(mail, "deliver", delivered):
        yield


def http_event(method: str, path: str, body: str, content_type: str) -> dict[str, Any]:
    """An HTTP API event, payload format 2.0:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": content_type, "host": "api.simulated"},
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1",
                     "sourceIp": "127.0.0.1", "userAgent": "simulator"},
            "stage": "$default",
            "requestId": "simulated",
            "domainName": "api.simulated",
        },
        "body": body,
        "isBase64Encoded": False,
    }  # fmt: skip
