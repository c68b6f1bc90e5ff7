"""``/api/queues``: messages on the queues, and actions on them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from twolane_local.aws.sqs.errors import SqsError
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.console.requests import (
    Json,
    ProblemError,
    body_of,
    field,
    int_parameter,
    required_field,
    string_list,
)
from twolane_local.console.state import message_state, messages_of, queue_states
from twolane_local.journal.json_shapes import message_as_json, queue_name
from twolane_local.journal.task_counts import LOOK, STEP_S, STEPS, no_throughput, throughput
from twolane_local.journal.trace import error_of
from twolane_local.model.message import AttributeValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.aws.sqs.queue import Queue
    from twolane_local.console.server import Parts

#: A message's body in a list is cut to so many characters.
_LISTED = 2_000
#: The most messages of one redrive: a person waits for the answer.
_REDRIVEN = 10_000


class QueueRoutes:
    """Routes read messages without receiving them: only workers change a receive count."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        base = "/queues/{name}"
        self.routes = [
            Route("/queues", self.queues),
            Route(f"{base}/messages", self.messages),
            Route(base + "/messages/{id}", self.message),
            Route(f"{base}/send", self.send, methods=["POST"]),
            Route(f"{base}/purge", self.purge, methods=["POST"]),
            Route(f"{base}/delete", self.delete, methods=["POST"]),
            Route(f"{base}/redrive", self.redrive, methods=["POST"]),
        ]

    async def queues(self, _: Request) -> Response:
        """List every queue with its counts and plots."""
        parts, now = self._parts, self._parts.clock.time()
        plots = throughput(islice(reversed(tuple(parts.journal)), LOOK), now)
        begin = (now // STEP_S + 1) * STEP_S - STEP_S * STEPS
        urls: Mapping[str, str] = parts.describe()["addresses"]["queues"]
        return Json(
            {
                "queues": [
                    {
                        **state.as_dict(),
                        "url": urls.get(name),
                        "throughput": plots.get(name) or no_throughput(begin),
                    }
                    for name, state in queue_states(parts.queues, parts.mappings).items()
                ],
                "now": now,
            }
        )

    def _queue(self, request: Request) -> Queue:
        name, queues = request.path_params["name"], self._parts.queues
        if name not in queues.names():
            names = ", ".join(queues.names()) or "none"
            raise ProblemError(404, f"there is no queue named {name!r}; there are: {names}")
        return queues.refreshed(name)

    async def messages(self, request: Request) -> Response:
        """List messages in the order of sending."""
        query, queue = request.query_params, self._queue(request)
        found, more = messages_of(
            self._parts.queues, queue.name, state=query.get("state", ""),
            after=int_parameter(query, "after", 0), limit=int_parameter(query, "limit", 100, 1_000),
        )  # fmt: skip
        errors = self._errors({each.id for each in found})
        shown = [message_as_json(each, errors.get(each.id), cut=_LISTED) for each in found]
        return Json({"messages": shown, "more": more, "now": self._parts.clock.time()})

    async def message(self, request: Request) -> Response:
        queue, identity = self._queue(request), request.path_params["id"]
        entry = queue.entry(identity)
        if entry is None:
            raise ProblemError(404, f"{queue.name} holds no message {identity}")
        errors = self._errors({identity})
        return Json(message_as_json(message_state(queue, entry), errors.get(identity)))

    def _errors(self, messages: set[str]) -> dict[str, dict[str, Any]]:
        """Return the error of each message's last attempt, from the last ``LOOK`` events."""
        ends: dict[str, Any] = {}
        traces: dict[tuple[str | None, str | None], Any] = {}
        for event in islice(reversed(tuple(self._parts.journal)), LOOK):
            if event.kind == "log" and event.data.get("stackTrace"):
                traces.setdefault((event.request_id, event.task_id), event)
            elif event.kind in ("task.failed", "task.rejected") and event.message_id in messages:
                known = ends.setdefault(event.message_id or "", event)
                if not known.data.get("errorType") and event.data.get("errorType"):
                    ends[event.message_id or ""] = event
        found = {}
        for identity, event in ends.items():
            trace = traces.get((event.request_id, event.task_id))
            found[identity] = error_of(event, [trace] if trace is not None else []) or {
                "type": event.data.get("errorType"), "message": event.data.get("message"),
                "traceback": "", "folded": "", "at": event.at,
            }  # fmt: skip
        return found

    async def send(self, request: Request) -> Response:
        """Send a message to the queue, like SendMessage."""
        queue, body = self._queue(request), await body_of(request)
        new = NewMessage(
            required_field(body, "body", str),
            delay_s=field(body, "delaySeconds", int),
            attributes=_attributes(field(body, "messageAttributes", dict, {})),
            group_id=field(body, "groupId", str),
            deduplication_id=field(body, "deduplicationId", str),
        )
        if queue.fifo and new.group_id is None:
            raise ProblemError(400, f"{queue.name} is a FIFO queue: 'groupId' is missing")
        return Json({"messageId": self._parts.queues.send(queue.name, new).id}, 201)

    async def purge(self, request: Request) -> Response:
        """Remove every message."""
        return Json({"purged": self._parts.queues.purge(self._queue(request).name)})

    async def delete(self, request: Request) -> Response:
        """Remove some messages, in any state."""
        queue, body = self._queue(request), await body_of(request)
        wanted = string_list(body, "messageIds")
        if not wanted:
            raise ProblemError(400, "'messageIds' is missing or empty")
        gone = [each for each in wanted if self._parts.queues.delete_by_id(queue.name, each)]
        return Json({"deleted": gone, "missing": [each for each in wanted if each not in gone]})

    async def redrive(self, request: Request) -> Response:
        """Move messages to their source queue or another one, with edited bodies if given."""
        from twolane_local.journal.messages import with_arguments

        queue, body = self._queue(request), await body_of(request)
        bodies = {identity: str(text) for identity, text in field(body, "bodies", dict, {}).items()}
        for identity, change in field(body, "edits", dict, {}).items():
            entry = queue.entry(identity)
            if entry is None or not isinstance(change, dict):
                raise ProblemError(400, f"'edits' names {identity!r}, which cannot be edited")
            bodies[identity] = with_arguments(
                entry.message.body, args=field(change, "args", list),
                kwargs=field(change, "kwargs", dict),
            )  # fmt: skip
        wanted, to = string_list(body, "messageIds"), field(body, "to", str)
        if to is not None and to not in self._parts.queues.names():
            raise ProblemError(404, f"there is no queue named {to!r} to move messages to")
        if wanted is None:
            visible, _ = messages_of(
                self._parts.queues, queue.name, state="visible", limit=_REDRIVEN
            )
            wanted = [each.id for each in visible]
        moved, failed = [], []
        for identity in wanted:
            try:
                message = self._parts.queues.redrive_one(
                    queue.name, to, message_id=identity, body=bodies.get(identity), new_chain=True
                )
            except SqsError as error:
                failed.append({"messageId": identity, "why": error.message})
                continue
            if message is None:
                failed.append({"messageId": identity, "why": f"it is not on {queue.name}"})
                continue
            where = to or (queue_name(message.dead_letter_source) or self._where(message.id))
            moved.append({"messageId": identity, "newMessageId": message.id, "queue": where})
        return Json({"redriven": moved, "failed": failed})

    def _where(self, message_id: str) -> str | None:
        queues = self._parts.queues
        names = queues.names()
        return next((n for n in names if queues.get(n).entry(message_id) is not None), None)


def _attributes(given: Mapping[str, Any]) -> dict[str, AttributeValue]:
    found = {}
    for name, value in given.items():
        if not isinstance(value, dict) or not isinstance(value.get("StringValue"), str):
            raise ProblemError(400, f"messageAttributes.{name} is not {{DataType, StringValue}}")
        found[name] = AttributeValue(str(value.get("DataType", "String")), value["StringValue"])
    return found
