"""The application that is explored: a few tasks that say what they do, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.schedules import crontab

if TYPE_CHECKING:
    from collections.abc import Callable

    Effect = Callable[[str, str], None]

QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/tasks"
#: The entry of ``beat_schedule``, and when it is due, UTC.
ENTRY, SLOT_HOUR, SLOT_MINUTE = "daily", 7, 0


def application(results: str, effect: Effect) -> Celery:
    """A Celery application on SQS with its results at this URL; ``effect(task id, what)`` is what
    its tasks do.
    """
    celery: Any = Celery("primitives", set_as_current=False)
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": QUEUE_URL}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        result_backend=results,
        result_extended=True,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_track_started=True,
        task_acks_late=True,
        beat_schedule={
            ENTRY: {
                "task": "slot",
                "schedule": crontab(hour=str(SLOT_HOUR), minute=str(SLOT_MINUTE)),
            }
        },
    )

    for function in (*_working(effect), *_failing(effect)):
        celery.task(bind=True, name=function.__name__, shared=False)(function)

    def caught(request: Any, error: Any, traceback: Any) -> None:  # noqa: ARG001 - Celery's order
        """An errback that Celery calls where the task has failed."""
        effect(str(request.id), "errback")

    celery.task(name="caught", shared=False)(caught)
    celery.finalize()
    return celery  # type: ignore[no-any-return]


def _working(effect: Effect) -> tuple[Callable[..., Any], ...]:
    def work(self: Any, label: str, value: int = 1) -> int:
        """Do it once."""
        effect(self.request.id, label)
        return value

    def slot(self: Any) -> None:
        """What beat sends."""
        effect(self.request.id, "slot")

    def add(self: Any, before: int, label: str, value: int = 1) -> int:
        """Do it, with what came before."""
        effect(self.request.id, label)
        return before + value

    def total(self: Any, values: list[int], label: str) -> int:
        """A chord's body: what it was given is part of what it does."""
        effect(self.request.id, f"{label} {values}")
        return sum(values)

    def again(self: Any, label: str, times: int) -> int:
        """Ask for another attempt, a few times."""
        effect(self.request.id, f"{label} {self.request.retries}")
        if self.request.retries < times:
            raise self.retry(countdown=2, max_retries=times)
        return int(self.request.retries)

    return work, slot, add, total, again


def _failing(effect: Effect) -> tuple[Callable[..., Any], ...]:
    def fail(self: Any, label: str) -> None:
        """Do it, if there is anything to do, and fail."""
        if label:
            effect(self.request.id, label)
        raise ValueError(label)

    def heard(self: Any, *_: Any) -> None:
        """An errback that is a task of its own."""
        effect(self.request.id, "errback")

    return fail, heard
