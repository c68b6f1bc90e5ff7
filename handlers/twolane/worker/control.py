"""``app.control`` for an application whose broker is SQS: through the state store.

Celery broadcasts a command and live workers answer. Between invocations no worker is alive, and SQS
has no broadcast; so a revoke is written where each worker looks before it runs a task, and
``inspect`` is answered from the workers' facts in the store. With any other broker this is Celery's
own ``Control``. Commands that only make sense for a process that polls (``pool_grow``,
``add_consumer`` …) answer with an error instead of silence.

``twolane.patches.publishing`` puts it in the place of Celery's own class.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any, cast

from celery import states
from celery.app.control import Control as CeleryControl

from twolane.patches.publishing import on_sqs
from twolane.state import open_store
from twolane.state.store import bounded
from twolane.worker.lease import LeaseState, lease_key, read_lease
from twolane.worker.lookup import (
    KEEP_S,
    Revocation,
    remember,
    revoked_ids,
    revoked_key,
    stamp_key,
    write_revocation,
)
from twolane.worker.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from celery import Celery

    from twolane.state.store import StateStore

logger = logging.getLogger("twolane.control")

#: States that a revoke settles at once; in any other the task runs, or has its result.
_NOT_STARTED = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})

#: How many leases a revoke looks for by the names of tasks: ten round trips.
_MOST_KEYS = 1000

#: Commands that read the application rather than a worker: the caller's own is the same.
_OF_THE_APPLICATION = frozenset({"conf", "dump_conf", "report", "clock", "active_queues"})


class Control(CeleryControl):
    """Celery's remote control client, for workers that live for one batch at a time."""

    def purge(self, connection: Any = None) -> int:
        """As Celery's; SQS takes one purge a minute, and one that is under way is enough:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_PurgeQueue.html
        """
        try:
            return super().purge(connection)
        except Exception as error:
            if type(error).__name__ != "PurgeQueueInProgress":
                raise
            logger.warning("a purge of the queue is under way already: %s", error)
            return 0

    discard_all = purge

    def broadcast(  # noqa: PLR0917 - Celery's signature
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
        callback: Callable[[Any], object] | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: Any = None,
        **extra_kwargs: Any,
    ) -> Any:
        """As ``celery.app.control.Control.broadcast``; ``timeout`` is not needed here."""
        if not on_sqs(self.app):
            return super().broadcast(
                command, arguments, destination, connection, reply, timeout, limit, callback,
                channel, pattern, matcher, **extra_kwargs,
            )  # fmt: skip
        merged = {**(arguments or {}), **extra_kwargs}
        answers = Answers(self.app, open_store(self.app)).answer(command, merged)
        if not reply:
            return None
        wanted = [
            {host: answer}
            for host, answer in answers.items()
            if is_addressed(host, destination, pattern, matcher)
        ][:limit]
        for one in wanted:
            if callback is not None:
                callback(one)
        return wanted


def is_addressed(
    host: str, destination: Iterable[str] | None, pattern: str | None, matcher: str | None
) -> bool:
    if destination is not None:
        return host in ([destination] if isinstance(destination, str) else destination)
    if pattern is not None and matcher is not None:
        if matcher == "pcre":
            return re.match(pattern, host) is not None
        return fnmatch.fnmatch(host, pattern)
    return True


class Answers:
    """Each worker's answer to a command: node name → answer."""

    def __init__(
        self, app: Celery, store: StateStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._app = app
        self._store = store
        self._presence = Presence(store)
        self._clock = clock

    def answer(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        cast("Any", self._app).clock.forward()  # as each command does to a worker's clock
        if command in _OF_THE_APPLICATION:
            reply = self._of_the_application(command, arguments)
            return {facts.hostname: reply for facts in self._presence.everyone()}
        method = getattr(self, f"_{command}", None)
        if method is None:
            refusal = f"{command} needs a running worker; there is none between invocations"
            logger.warning("%s", refusal)
            return {facts.hostname: {"error": refusal} for facts in self._presence.everyone()}
        return cast("dict[str, Any]", method(**arguments))

    def _ping(self) -> dict[str, Any]:
        return {facts.hostname: {"ok": "pong"} for facts in self._presence.everyone()}

    def _stats(self) -> dict[str, Any]:
        return {facts.hostname: facts.stats for facts in self._presence.everyone()}

    def _registered(self, taskinfoitems: Iterable[str] = (), **_: Any) -> dict[str, Any]:
        return {
            facts.hostname: [
                _registration(name, options, tuple(taskinfoitems or ()))
                for name, options in facts.registered.items()
            ]
            for facts in self._presence.everyone()
        }

    def _active(self, **_: Any) -> dict[str, Any]:
        return self._tasks_in("active")

    def _reserved(self, **_: Any) -> dict[str, Any]:
        return self._tasks_in("reserved")

    def _scheduled(self, **_: Any) -> dict[str, Any]:
        # A task that is not due waits on SQS or in a schedule, which no worker holds.
        return {facts.hostname: [] for facts in self._presence.everyone()}

    def _query_task(self, ids: Iterable[str]) -> dict[str, Any]:
        wanted = {ids} if isinstance(ids, str) else set(ids)
        everyone = self._presence.everyone()
        known = self._presence.states(everyone)
        return {
            facts.hostname: {
                info["id"]: [known[key], _info(info, known[key])]
                for key, info in facts.tasks.items()
                if info["id"] in wanted and known[key] != "ready"
            }
            for facts in everyone
        }

    def _revoked(self, **_: Any) -> dict[str, Any]:
        ids = revoked_ids(self._store)
        return {facts.hostname: ids for facts in self._presence.everyone()}

    def _revoke(
        self,
        task_id: str | Iterable[str],
        terminate: bool = False,
        signal: str | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        text = write_revocation(Revocation(bool(terminate), str(signal or "SIGTERM")))
        for one in ids:
            self._store.put(revoked_key(one), text, ttl_s=KEEP_S)
        remember(self._store, ids)
        # Those that run store it themselves. A lease is found by the names of this application's
        # tasks, without a parent and on the first attempt, or by its worker's facts, which are
        # written of batches that last. One that is not found is revoked all the same.
        wanted = list(ids)
        names = [name for name in self._app.tasks if not name.startswith("celery.")]
        keys = {
            bounded(lease_key({"task": name}, one)): one
            for one in wanted[: _MOST_KEYS // max(1, len(names))]
            for name in names
        }
        for facts in self._presence.everyone():
            keys |= {key: info["id"] for key, info in facts.tasks.items() if info["id"] in wanted}
        found = self._store.get_many(keys)
        leases = [(keys[key], read_lease(text)) for key, text in found.items()]
        running = {
            one
            for one, lease in leases
            if lease and lease.state is LeaseState.RUNNING and lease.until > self._clock()
        }
        for one in ids:
            if one not in running:
                self._settle(one)
        reply = {"ok": f"tasks {', '.join(ids)} flagged as revoked"}
        return {facts.hostname: reply for facts in self._presence.everyone()}

    def _settle(self, task_id: str) -> None:
        """Store REVOKED for a task that has not started, as a stock worker does at once."""
        backend: Any = self._app.backend
        try:
            if backend.get_state(task_id) in _NOT_STARTED:
                backend.mark_as_revoked(task_id, reason="revoked", store_result=True)
        except NotImplementedError:
            return  # no result backend: the worker still refuses the task

    def _revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | list[str],
        terminate: bool = False,
        signal: str | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        pairs = (
            dict(item.split("=", 1) for item in headers) if isinstance(headers, list) else headers
        )
        text = write_revocation(Revocation(bool(terminate), str(signal or "SIGTERM")))
        for header, stamps in pairs.items():
            for value in stamps if isinstance(stamps, list | tuple | set) else [stamps]:
                self._store.put(stamp_key(header, value), text, ttl_s=KEEP_S)
        suffix = "" if terminate else ", but not terminated"
        reply = {"ok": f"headers {headers} flagged as revoked{suffix}"}
        return {facts.hostname: reply for facts in self._presence.everyone()}

    def _tasks_in(self, state: str) -> dict[str, Any]:
        everyone = self._presence.everyone()
        known = self._presence.states(everyone)
        return {
            facts.hostname: [
                _info(info, state) for key, info in facts.tasks.items() if known[key] == state
            ]
            for facts in everyone
        }

    def _of_the_application(self, command: str, arguments: Mapping[str, Any]) -> Any:
        from celery.worker.control import Panel

        if command == "active_queues":
            queues = cast("Any", self._app.amqp).queues.consume_from.values()
            return [dict(queue.as_dict(recurse=True)) for queue in queues]
        reply = Panel.data[command](_Node(self._app), **arguments)
        if command in {"conf", "dump_conf"}:
            # A worker includes the modules of all tasks that it knows.
            modules = {task.__class__.__module__ for task in self._app.tasks.values()}
            reply["include"] = sorted({*(self._app.conf.include or ()), *modules})
        return json.loads(json.dumps(reply, default=repr))


def _registration(name: str, options: Mapping[str, str], items: tuple[str, ...]) -> str:
    found = [
        f"{item}={options[item]}"
        for item in items or ("exchange", "routing_key", "rate_limit")
        if item in options
    ]
    return f"{name} [{' '.join(found)}]" if found else name


class _Node:
    """The state that Celery's own command functions look at, as far as these need it."""

    def __init__(self, app: Celery) -> None:
        self.app = app


def _info(info: dict[str, Any], state: str) -> dict[str, Any]:
    """``Request.info()`` of a task, from the facts of its worker when its batch began."""
    active = state == "active"
    return {
        **{key: value for key, value in info.items() if key != "told"},
        "acknowledged": active,
        "time_start": info["told"] if active else None,
        "worker_pid": info["worker_pid"] if active else None,
    }
