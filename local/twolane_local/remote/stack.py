"""A deployed stack as a ``Source``."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.journal.task_counts import count_tasks
from twolane_local.remote import account as resources
from twolane_local.remote import dead_letters
from twolane_local.remote import resources as results
from twolane_local.remote import resources as schedules
from twolane_local.remote.dead_letters import Letters
from twolane_local.remote.logs import ABOUT_TASKS, StackLogs, last_error, with_id
from twolane_local.remote.resources import Queues, StackFunctions
from twolane_local.remote.source import Choice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from twolane_local.journal import Event
    from twolane_local.journal.filters import Filter
    from twolane_local.remote.account import Account
    from twolane_local.remote.source import Edit, Json

#: How far back logs are read, in seconds, where nothing says otherwise: a search costs by the byte.
BACK_S = 3600.0
#: SQS's own limit of a delay, in seconds.
_MAX_DELAY_S = 900


class StackSource:
    """``back_s`` is how far back in the logs is looked, in seconds."""

    real = True

    def __init__(
        self,
        name: str,
        account: Account,
        *,
        back_s: float = BACK_S,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
        poll_s: int = dead_letters.POLL_S,
    ) -> None:
        self._account, self.now, self._wait = account, now, wait
        self._back_s = back_s
        self._resources = resources.read(account, name)
        self._queues = Queues(account, self._resources)
        self._letters = Letters(account, self._queues.urls, poll_s=poll_s)
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

    def queues(self) -> list[Json]:
        return self._queues.listed()

    def messages(self, queue: str, *, limit: int) -> list[Json]:
        name = self._harmless(queue)
        return [dead_letters.shape(name, each) for each in self._letters.look(name, limit=limit)]

    def message(self, queue: str, identifier: str) -> Json | None:
        choice = Choice((identifier,))
        for message in self.messages(queue, limit=10_000):
            if choice.takes(message):
                return {**message, "error": self._last_error(message)}
        return None

    def _last_error(self, message: Json) -> Json | None:
        """By what a dead letter's last attempt ended, if its function's logs still tell."""
        task_id = (message.get("task") or {}).get("id")
        if task_id is None:
            return None
        try:
            found = self._logs.since(message["sentAt"] - 60, pattern=with_id(task_id))
        except LocalError as error:
            return {"message": f"not known: {error}"}
        return last_error([event for event in found if event.task_id == task_id])

    def redrive(self, queue: str, choice: Choice, *, to: str | None, edit: Edit) -> Json:
        target = None if to is None else self._queues.name_of(to)
        return self._letters.redrive(self._harmless(queue), choice, to=target, edit=edit)

    def purge(self, queue: str, choice: Choice) -> int:
        return self._letters.purge(self._harmless(queue), choice)

    def _harmless(self, queue: str) -> str:
        """The queue's name. Raises ``LocalError`` where receiving would bring messages nearer to
        their dead-letter queue, and hide them from the functions that should have them.
        """
        name = self._queues.name_of(queue)
        known = {each["name"]: each for each in self._queues.listed()}
        if "maxReceiveCount" in known[name] or known[name]["mappings"]:
            raise LocalError(
                f"{name} is not looked into: SQS shows a message only by receiving it, which "
                f"counts towards its dead-letter queue and hides it from its function; "
                f"`twolane queues --stack {self.name}` has the queue's figures"
            )
        return name

    # Functions, schedules.

    def functions(self) -> list[Json]:
        return self._functions.listed()

    def schedules(self) -> list[Json]:
        return schedules.listed(self._account, self._resources)

    # Tasks.

    def tasks(self) -> list[Json]:
        counted = count_tasks(self._logs.since(self.now() - self._back_s, pattern=ABOUT_TASKS))
        return [each.as_dict() for _, each in sorted(counted.counts.items())]

    def runs(self, name: str, *, limit: int) -> list[Json]:
        counted = count_tasks(self._logs.since(self.now() - self._back_s, pattern=ABOUT_TASKS))
        found = [run for run in counted.runs.values() if run.name == name]
        return [run.as_dict() for run in sorted(found, key=lambda run: -run.at)[:limit]]

    def send(
        self,
        name: str,
        *,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        countdown: float | None,
        queue: str | None,
    ) -> Json:
        from twolane_local.journal.messages import task_message

        target = self._task_queue(queue)
        if countdown is not None and countdown > _MAX_DELAY_S:
            raise LocalError(
                f"a stack's queue delays a message by {_MAX_DELAY_S} s at most; for more, let the "
                "application send the task"
            )
        task_id, body = task_message(name, args, kwargs, countdown=countdown)
        delay = None if countdown is None else round(countdown)
        message_id = self._letters.send(target, body, delay_s=delay)
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

    def replay(self, identifier: str, edit: Edit) -> Json:
        call = results.stored_call(self._account, self._resources, identifier)
        sent = self.send(
            call.name,
            args=call.args if edit.args is None else edit.args,
            kwargs=call.kwargs if edit.kwargs is None else edit.kwargs,
            countdown=None,
            queue=None,
        )
        return {"kind": "task", "id": sent["taskId"], "queue": sent["queue"]}

    # The journal, as far as logs make one.

    def trace(self, identifier: str) -> Json | None:
        from twolane_local.journal.json_shapes import trace_as_json
        from twolane_local.journal.trace import trace

        if '"' in identifier:  # it would end the pattern; no id has one
            return None
        now = self.now()
        found = self._logs.about(identifier, start=now - self._back_s)
        try:
            return trace_as_json(trace(found, identifier, now=now))
        except LookupError:
            return None

    def why(self, identifier: str, /) -> list[str]:  # noqa: ARG002 - the logs do not say
        """Nothing: only the emulator knows why something does not move."""
        return []

    def events(self, wanted: Filter, *, since: float | None, limit: int) -> list[Event]:
        wanted = self._by_name(wanted)
        start = self.now() - self._back_s if since is None else since
        found = self._logs.since(
            start, function=wanted.function or None, pattern=with_id(wanted.id)
        )
        return [event for event in found if wanted.matches(event)][-limit:]

    def follow(self, wanted: Filter) -> Iterator[Event]:
        wanted = self._by_name(wanted)
        events = self._logs.follow(function=wanted.function or None)
        return (event for event in events if wanted.matches(event))

    def _by_name(self, wanted: Filter) -> Filter:
        """A function may be named by its logical id, but the events have its name."""
        if not wanted.function:
            return wanted
        return replace(wanted, function=self._functions.name_of(wanted.function))
