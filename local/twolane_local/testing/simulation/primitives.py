"""What is explored, each with what must come of it; and the application that does it.

The application is a few tasks that say what they do, and nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import Celery, chain, chord, group
from celery.schedules import crontab
from fastapi import BackgroundTasks, FastAPI

from twolane import ApiHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Effect = Callable[[str, str], None]


#: What a publisher is told: the tasks that it has been promised an outcome of, the last one last.
Promised = list[str]


@dataclass(frozen=True)
class Primitive:
    """``publish`` runs in an environment of its own, with the application's tasks. ``effects`` must
    have happened once the last task has succeeded (failed, if its ``state`` is), in order where
    ``ordered``; ``value`` is its result. ``function`` is invoked in a publisher's place;
    ``revokes`` so many seconds later.
    """

    name: str
    publish: Callable[[Mapping[str, Any]], Promised] | None = None
    effects: tuple[str, ...] = ()
    ordered: bool = False
    states: tuple[str, ...] = ("SUCCESS",)
    value: Any = None
    batch_size: int = 10
    function: str = "publisher"
    revokes: float | None = None
    scheduler: bool = False
    ticks: bool = False
    #: Its errback is ended by the time limit of the task that has failed, and nothing is stored.
    limited: bool = False


def _task(tasks: Mapping[str, Any]) -> Promised:
    return [tasks["work"].delay("once", 7).id]


def _retry(tasks: Mapping[str, Any]) -> Promised:
    return [tasks["again"].delay("attempt", 2).id]


def _eta(tasks: Mapping[str, Any]) -> Promised:
    """Beyond SQS's longest delay: it is put off once more on its way."""
    return [tasks["work"].apply_async(("once", 7), countdown=1000).id]


def _eta_scheduled(tasks: Mapping[str, Any]) -> Promised:
    return [tasks["work"].apply_async(("once", 7), countdown=2000).id]


def _chain(tasks: Mapping[str, Any]) -> Promised:
    work, add = tasks["work"], tasks["add"]
    steps: Any = chain(work.s("first"), add.s("second"), add.s("third"))
    last = steps.apply_async()
    return [last.parent.parent.id, last.parent.id, last.id]


def _group(tasks: Mapping[str, Any]) -> Promised:
    made: Any = group([tasks["work"].s(f"member {number}", number) for number in range(3)])
    result = made.apply_async()
    result.save()
    return [each.id for each in result]


def _chord(tasks: Mapping[str, Any]) -> Promised:
    headers = [tasks["work"].s(f"header {number}", number) for number in range(2)]
    result: Any = chord(headers)(tasks["total"].s("body"))
    return [result.id]


def _nested_chord(tasks: Mapping[str, Any]) -> Promised:
    work, total = tasks["work"], tasks["total"]
    inner: Any = chord([work.s(f"inner header {number}", number) for number in range(2)],
                       total.s("inner body"))  # fmt: skip
    result: Any = chord([inner, work.s("outer header", 5)])(total.s("body"))
    return [result.id]


def _failing_chord(tasks: Mapping[str, Any]) -> Promised:
    headers = [tasks["work"].s("header", 1), tasks["fail"].s("failing header")]
    body = tasks["total"].s("body").on_error(tasks["heard"].s())
    result: Any = chord(headers)(body)
    return [result.id]


def _errback(tasks: Mapping[str, Any]) -> Promised:
    return [tasks["fail"].apply_async(("fails",), link_error=tasks["heard"].s()).id]


def _errback_inline(tasks: Mapping[str, Any]) -> Promised:
    """Celery calls it where the task has failed, under the task's own lease."""
    return [tasks["fail"].apply_async(("",), link_error=tasks["caught"].s()).id]


def _link(tasks: Mapping[str, Any]) -> Promised:
    callback = tasks["add"].s("callback", 2)
    first = tasks["work"].apply_async(("first", 1), link=callback)
    return [first.id]


def _revoke(tasks: Mapping[str, Any]) -> Promised:
    return [tasks["work"].apply_async(("once", 7), countdown=5).id]


PRIMITIVES: Mapping[str, Primitive] = {
    each.name: each
    for each in (
        Primitive("task", _task, ("once",), value=7),
        Primitive("retry", _retry, ("attempt 0", "attempt 1", "attempt 2"), ordered=True, value=2),
        Primitive("eta", _eta, ("once",), value=7),
        Primitive("eta-scheduled", _eta_scheduled, ("once",), value=7, scheduler=True),
        Primitive("chain", _chain, ("first", "second", "third"), ordered=True, value=3),
        Primitive("group", _group, ("member 0", "member 1", "member 2"), value=2),
        Primitive("chord", _chord, ("header 0", "header 1", "body [0, 1]"), value=1, batch_size=1),
        Primitive("nested-chord", _nested_chord,
                  ("inner header 0", "inner header 1", "outer header", "inner body [0, 1]",
                   "body [1, 5]"), value=6),
        Primitive("failing-chord", _failing_chord, ("failing header", "errback"),
                  states=("FAILURE",), batch_size=1),
        Primitive("errback", _errback, ("fails", "errback"), ordered=True, states=("FAILURE",)),
        Primitive("errback-inline", _errback_inline, ("errback",), states=("FAILURE",),
                  limited=True),
        Primitive("link", _link, ("first", "callback"), ordered=True, value=1),
        Primitive("revoke", _revoke, ("once",), states=("REVOKED", "SUCCESS"), revokes=1.0),
        Primitive("beat", None, ("slot",), function="", ticks=True),
        Primitive("inline", None, ("once",), function="api"),
    )
}  # fmt: skip


QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/tasks"
#: The entry of ``beat_schedule``, and when it is due, UTC.
ENTRY, SLOT_HOUR, SLOT_MINUTE = "daily", 7, 0


def application(results: str, effect: Effect) -> Celery:
    """A Celery application on SQS; its tasks call ``effect(task id, what)``."""
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


#: How long the endpoint takes: until the reserve of a function of thirty seconds is reached.
ENDPOINT_S = 29.5


def inline_handler(celery: Celery) -> Any:
    """A handler of its own for each execution environment."""
    api = FastAPI()
    work: Any = celery.tasks["work"]

    @api.post("/", status_code=202)
    def accept(background: BackgroundTasks) -> dict[str, str]:
        background.add_task(work, "once", 7)
        time.sleep(ENDPOINT_S)
        return {"status": "accepted"}

    return ApiHandler(api)
