"""``/api/tasks`` and ``/api/replay``: tasks with their runs, publishing one, and replays."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from twolane.errors import MalformedMessageError
from twolane_local.aws.invocation import TenancyError, ThrottledError
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.checks.advise import judge, measure
from twolane_local.console.application import ApplicationError
from twolane_local.console.requests import (
    Json,
    ProblemError,
    body_of,
    field,
    int_parameter,
    required_field,
)
from twolane_local.journal import CONTENT_LIMIT, redact
from twolane_local.journal.messages import TaskMessage, arguments_of, decode
from twolane_local.journal.related_events import resolve
from twolane_local.journal.task_counts import Counts, count_tasks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.console.server import Parts
    from twolane_local.journal import Event
    from twolane_local.journal.task_counts import TaskCounts


class TaskRoutes:
    """Publishing goes through the application's own Celery app."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.routes = [
            Route("/tasks", self.tasks),
            Route("/tasks/{name}", self.task),
            Route("/tasks/{name}/run", self.run, methods=["POST"]),
            Route("/replay", self.replay, methods=["POST"]),
        ]

    async def tasks(self, _: Request) -> Response:
        """List the registered tasks, and those in the journal."""
        registered, problem = await self._registered()
        events = tuple(self._parts.journal)
        counted, advice = await asyncio.to_thread(_counted, events)
        known = {each["name"]: each for each in registered}
        names = sorted(known.keys() | (counted.counts.keys() - {"unknown"}))
        shown = [_task(name, known.get(name), counted, advice) for name in names]
        return Json({"tasks": shown, "problem": problem})

    async def _registered(self) -> tuple[list[dict[str, Any]], str | None]:
        try:
            return await self._parts.application.tasks(), None
        except ApplicationError as error:
            return [], str(error)

    async def task(self, request: Request) -> Response:
        name = request.path_params["name"]
        limit = int_parameter(request.query_params, "limit", 50, 500)
        registered, problem = await self._registered()
        known = {each["name"]: each for each in registered}
        events = tuple(self._parts.journal)
        counted, advice = await asyncio.to_thread(_counted, events)
        if name not in known and name not in counted.counts:
            raise ProblemError(404, f"no task named {name!r} is registered or in the journal")
        runs = [run for run in counted.runs.values() if run.name == name][-limit:][::-1]
        sent = await asyncio.to_thread(sent_tasks, events, {run.task_id for run in runs})
        history = [{**run.as_dict(), **_arguments(sent.get(run.task_id))} for run in runs]
        return Json(
            {**_task(name, known.get(name), counted, advice), "history": history,
             "problem": problem}
        )  # fmt: skip

    async def run(self, request: Request) -> Response:
        body = await body_of(request)
        published = await self._publish(
            request.path_params["name"],
            field(body, "args", list, []),
            field(body, "kwargs", dict, {}),
            countdown=field(body, "countdown", (int, float)),
            queue=field(body, "queue", str),
            task_id=field(body, "taskId", str),
        )
        return Json(published, 201)

    async def _publish(
        self, name: str, args: list[Any], kwargs: dict[str, Any], **options: Any
    ) -> dict[str, Any]:
        """Publish under a new request id, so that everything it starts can be found by that id."""
        origin = new_request_id()
        published = await self._parts.application.publish(
            name, args=args, kwargs=kwargs, headers={"twolane_request_id": origin}, **options
        )
        self._parts.journal.record(
            "task.published", request_id=origin, task_id=published["taskId"],
            message_id=published.get("messageId"), queue=published.get("queue"),
            taskName=name, message=f"Task {name}[{published['taskId']}] is published by hand",
            delaySeconds=published.get("delaySeconds") or 0,
        )  # fmt: skip
        return {**published, "requestId": origin}

    async def replay(self, request: Request) -> Response:
        """Repeat a task, a message or a request's event."""
        body = await body_of(request)
        events = tuple(self._parts.journal)
        identity, kind = await asyncio.to_thread(resolve, events, required_field(body, "id", str))
        if kind == "request":
            return Json(await self._replay_event(events, identity, body), 201)
        if kind == "message":
            return Json(self._replay_message(events, identity, body), 201)
        return Json(await self._replay_task(events, identity, body), 201)

    async def _replay_task(
        self, events: Iterable[Event], identity: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        before = sent_tasks(events, {identity}).get(identity)
        args, kwargs = field(body, "args", list), field(body, "kwargs", dict)
        if before is None or before[0].name is None:
            raise ProblemError(410, f"the journal no longer holds the message of task {identity}")
        known, (real_args, real_kwargs) = before
        published = await self._publish(
            known.name or "", real_args if args is None else args,
            real_kwargs if kwargs is None else kwargs,
        )  # fmt: skip
        return {"kind": "task", "id": published["taskId"], **published}

    def _replay_message(
        self, events: Iterable[Event], identity: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        sent = next(
            (e for e in events if e.kind == "message.sent" and e.message_id == identity), None
        )
        text = field(body, "body", str)
        if text is None and sent is not None:
            text = sent.data.get("body")
            if sent.data["bytes"] > CONTENT_LIMIT:
                text = None
        if text is None or sent is None or sent.queue is None:
            raise ProblemError(410, f"the journal no longer holds all of message {identity}")
        group = "replay" if self._parts.queues.get(sent.queue).fifo else None
        new = NewMessage(text, group_id=group, deduplication_id=group and uuid.uuid4().hex)
        message = self._parts.queues.send(sent.queue, new)
        return {"kind": "message", "id": message.id, "messageId": message.id, "queue": sent.queue}

    async def _replay_event(
        self, events: Iterable[Event], identity: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        started = next(
            (e for e in events if e.kind == "invocation.started" and e.request_id == identity), None
        )
        event = field(body, "event", dict)
        if started is None or started.function not in self._parts.functions.specs:
            raise ProblemError(410, f"the journal no longer holds the event of request {identity}")
        if event is None:
            payload = started.data.get("payload") or b""
            if len(payload) >= CONTENT_LIMIT:
                raise ProblemError(410, "the event is larger than the journal keeps; give 'event'")
            event = json.loads(payload)
        request_id = new_request_id()
        context = event.get("requestContext")
        if isinstance(context, dict) and "requestId" in context:
            event = {**event, "requestContext": {**context, "requestId": request_id}}
        try:
            done = await self._parts.functions.invoke(
                started.function or "", json.dumps(event).encode(), request_id=request_id
            )
        except ThrottledError as error:
            raise ProblemError(429, f"{started.function} has no free concurrency") from error
        except TenancyError as error:
            raise ProblemError(400, str(error)) from error
        return {
            "kind": "request", "id": request_id, "requestId": request_id, "error": done.error,
            "payload": redact.text(done.payload.decode("utf-8", "replace")),
        }  # fmt: skip


#: The kinds that are needed to count tasks, besides the tasks' own events.
_BESIDE = ("request.received", "invocation.ended", "message.dead_lettered")


def _counted(events: Iterable[Event]) -> tuple[TaskCounts, dict[str, list[str]]]:
    steps = [event for event in events if event.kind.startswith(("task.", "inline.", "batch."))
             or event.kind in _BESIDE]  # fmt: skip
    advice = {}
    for work in measure(steps):
        judged = judge(work)
        advice[work.name] = [f"{judged.verdict.value}: {reason}" for reason in judged.reasons]
    return count_tasks(steps), advice


def _task(
    name: str, known: dict[str, Any] | None, counted: TaskCounts, advice: dict[str, list[str]]
) -> dict[str, Any]:
    counts = counted.counts.get(name) or Counts(name)
    described = known or {"name": name, "doc": "", "parameters": [], "options": {}}
    return {
        **described, **counts.as_dict(), "registered": known is not None,
        "advice": advice.get(name, []),
    }  # fmt: skip


#: A task as its first message shows it, and its real arguments.
Sent = tuple[TaskMessage, tuple[list[Any], dict[str, Any]]]


def sent_tasks(events: Iterable[Event], wanted: set[str]) -> dict[str, Sent]:
    messages = {
        event.message_id: event.task_id
        for event in events
        if event.kind in ("task.published", "task.started") and event.task_id in wanted
    }
    found: dict[str, Sent] = {}
    for event in events:
        task_id = messages.get(event.message_id) if event.kind == "message.sent" else None
        body = event.data.get("body")
        if task_id is None or task_id in found or not isinstance(body, str):
            continue
        task = decode(body)
        arguments = real_arguments(body) if task.name is not None else None
        if arguments is not None:
            found[task_id] = (task, arguments)
    return found


def real_arguments(body: str) -> tuple[list[Any], dict[str, Any]] | None:
    """Return a task's arguments, hidden or not: to run it again, never to show them."""
    try:
        return arguments_of(body)
    except MalformedMessageError:
        return None


def _arguments(sent: Sent | None) -> dict[str, Any]:
    if sent is None:
        return {"args": None, "kwargs": None, "argsHidden": False}
    task = sent[0]
    return {
        "args": redact.values(list(task.args)) if task.args is not None else None,
        "kwargs": redact.values(dict(task.kwargs)) if task.kwargs is not None else None,
        "argsHidden": task.hidden, "argsRepr": task.args_repr, "kwargsRepr": task.kwargs_repr,
    }  # fmt: skip
