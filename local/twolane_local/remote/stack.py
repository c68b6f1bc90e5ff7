"""A deployed stack as a ``Source``."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.journal.json_shapes import trace_as_json
from twolane_local.journal.messages import task_message
from twolane_local.journal.task_counts import count_tasks
from twolane_local.journal.trace import trace
from twolane_local.remote.dead_letters import POLL_S, DeadLetters, message_shape
from twolane_local.remote.logs import ABOUT_TASKS, StackLogs, id_pattern, last_error
from twolane_local.remote.resources import (
    StackFunctions,
    StackQueues,
    list_schedules,
    read_resources,
    stored_call,
)
from twolane_local.remote.source import MessageChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from twolane_local.journal import Event
    from twolane_local.journal.filters import Filter
    from twolane_local.journal.task_counts import TaskCounts
    from twolane_local.remote.account import Account
    from twolane_local.remote.source import Edit, JsonObject

#: How far back logs are read by default, in seconds: AWS charges a search by the byte.
BACK_S = 3600.0
#: SQS's limit of a delay, in seconds.
_MAX_DELAY_S = 900


class StackSource:
    """Logs are read ``back_s`` seconds back."""

    real = True

    def __init__(
        self,
        name: str,
        account: Account,
        *,
        back_s: float = BACK_S,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
        poll_s: int = POLL_S,
    ) -> None:
        self._account, self.now, self._wait = account, now, wait
        self._back_s = back_s
        self._resources = read_resources(account, name)
        self._queues = StackQueues(account, self._resources)
        self._dead_letters = DeadLetters(account, self._queues.urls, poll_s=poll_s)
        self._functions = StackFunctions(account, self._resources)
        self.name = name

    @cached_property
    def where(self) -> str:
        return f"stack {self.name} ({self._account.id}, {self._account.region})"

    @cached_property
    def _logs(self) -> StackLogs:
        groups = self._functions.log_groups()
        return StackLogs(self._account, groups, now=self.now, wait=self._wait)

    # Queues.

    def queues(self) -> list[JsonObject]:
        return self._queues.listed()

    def messages(self, queue: str, *, limit: int) -> list[JsonObject]:
        name = self._readable_queue(queue)
        return [message_shape(name, each) for each in self._dead_letters.peek(name, limit=limit)]

    def message(self, queue: str, identifier: str) -> JsonObject | None:
        choice = MessageChoice((identifier,))
        for message in self.messages(queue, limit=10_000):
            if choice.includes(message):
                return {**message, "error": self._last_error(message)}
        return None

    def _last_error(self, message: JsonObject) -> JsonObject | None:
        """Return the error of a dead letter's last attempt, if the logs still have it."""
        task_id = (message.get("task") or {}).get("id")
        if task_id is None:
            return None
        try:
            found = self._logs.since(message["sentAt"] - 60, pattern=id_pattern(task_id))
        except LocalError as error:
            return {"message": f"not known: {error}"}
        return last_error([event for event in found if event.task_id == task_id])

    def redrive(
        self, queue: str, choice: MessageChoice, *, to: str | None, edit: Edit
    ) -> JsonObject:
        target = None if to is None else self._queues.name_of(to)
        name = self._readable_queue(queue)
        return self._dead_letters.redrive(name, choice, to=target, edit=edit)

    def purge(self, queue: str, choice: MessageChoice) -> int:
        return self._dead_letters.purge(self._readable_queue(queue), choice)

    def _readable_queue(self, queue: str) -> str:
        """Return the queue's name. Raises ``LocalError`` if a receive would move messages closer to
        their dead-letter queue, or hide them from their function.
        """
        name = self._queues.name_of(queue)
        known = {each["name"]: each for each in self._queues.listed()}
        if "maxReceiveCount" in known[name] or known[name]["mappings"]:
            raise LocalError(
                f"messages of {name} are not read: SQS shows a message only to a receive, which "
                f"counts towards its dead-letter queue and hides it from its function; "
                f"`twolane queues --stack {self.name}` shows the queue's counts"
            )
        return name

    # Functions, schedules.

    def functions(self) -> list[JsonObject]:
        return self._functions.listed()

    def schedules(self) -> list[JsonObject]:
        return list_schedules(self._account, self._resources)

    # Tasks.

    def tasks(self) -> list[JsonObject]:
        return [each.as_dict() for _, each in sorted(self._task_counts().counts.items())]

    def _task_counts(self) -> TaskCounts:
        return count_tasks(self._logs.since(self.now() - self._back_s, pattern=ABOUT_TASKS))

    def runs(self, name: str, *, limit: int) -> list[JsonObject]:
        found = [run for run in self._task_counts().runs.values() if run.name == name]
        return [run.as_dict() for run in sorted(found, key=lambda run: -run.at)[:limit]]

    def send(
        self,
        name: str,
        *,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        countdown: float | None,
        queue: str | None,
    ) -> JsonObject:
        target = self._task_queue(queue)
        if countdown is not None and countdown > _MAX_DELAY_S:
            raise LocalError(
                f"SQS delays a message by {_MAX_DELAY_S} s at most; for a longer delay, let the "
                "application send the task"
            )
        task_id, body = task_message(name, args, kwargs, countdown=countdown)
        delay = None if countdown is None else round(countdown)
        message_id = self._dead_letters.send(target, body, delay_s=delay)
        return {"taskId": task_id, "messageId": message_id, "queue": target}

    def _task_queue(self, wanted: str | None) -> str:
        if wanted is not None:
            return self._queues.name_of(wanted)
        read = [queue["name"] for queue in self._queues.listed() if queue["mappings"]]
        if len(read) == 1:
            return str(read[0])
        raise LocalError(
            f"functions read {len(read)} queues of the stack ({', '.join(read) or 'none'}): "
            "name one with --queue"
        )

    def replay(self, identifier: str, edit: Edit) -> JsonObject:
        call = stored_call(self._account, self._resources, identifier)
        sent = self.send(
            call.name,
            args=call.args if edit.args is None else edit.args,
            kwargs=call.kwargs if edit.kwargs is None else edit.kwargs,
            countdown=None,
            queue=None,
        )
        return {"kind": "task", "id": sent["taskId"], "queue": sent["queue"]}

    # The journal, from the logs.

    def trace(self, identifier: str) -> JsonObject | None:
        if '"' in identifier:  # it would end the pattern; no id has one
            return None
        now = self.now()
        found = self._logs.about(identifier, start=now - self._back_s)
        try:
            return trace_as_json(trace(found, identifier, now=now))
        except LookupError:
            return None

    def why(self, identifier: str, /) -> list[str]:  # noqa: ARG002 - the logs do not say
        """Return no reasons: only the emulator knows them."""
        return []

    def events(self, wanted: Filter, *, since: float | None, limit: int) -> list[Event]:
        wanted = self._by_name(wanted)
        start = self.now() - self._back_s if since is None else since
        found = self._logs.since(
            start, function=wanted.function or None, pattern=id_pattern(wanted.id)
        )
        return [event for event in found if wanted.matches(event)][-limit:]

    def follow(self, wanted: Filter) -> Iterator[Event]:
        wanted = self._by_name(wanted)
        events = self._logs.follow(function=wanted.function or None)
        return (event for event in events if wanted.matches(event))

    def _by_name(self, wanted: Filter) -> Filter:
        """Replace a function's logical id by its name, which the events have."""
        if not wanted.function:
            return wanted
        return replace(wanted, function=self._functions.name_of(wanted.function))
