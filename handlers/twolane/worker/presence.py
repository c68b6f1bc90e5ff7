"""The workers that are there and their tasks, as each has last written them to the state store.

A stock worker answers a broadcast while it runs. An execution environment is frozen between two
invocations and cannot; so each writes its own facts to the store, at its start and at the start of
a batch, and ``app.control.inspect()`` reads them. A list names the workers, a key for each holds
its facts; both fade away with an environment that is no longer used.

``Presence`` writes and reads the facts; ``WorkerPresence`` decides when a worker writes its own.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane.errors import StoreUnavailableError
from twolane.state.store import NameList
from twolane.worker.lease import LeaseState, read_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from celery import Celery

    from twolane.state.store import StateStore
    from twolane.worker.consumer import TaskConsumer
    from twolane.worker.message import Envelope, TaskFacts
    from twolane.worker.records import Run

INDEX_KEY = "twolane:workers"
#: How many environments are listed: more than most accounts may have at once.
_MOST = 4096
PREFIX = "twolane:worker:"

#: How long a worker counts as present after it has written its facts, in seconds. Lambda keeps an
#: idle environment for minutes; it does not say how many.
KEEP_S = 900.0

#: The longest text that is shown of a task, in characters.
_SHOWN = 1024

#: The most bytes that one worker writes: an item of DynamoDB holds 400 KB.
_MOST_BYTES = 300_000


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """The facts of one worker.

    ``tasks``: lease key → what Celery's ``Request.info()`` says of it; ``registered``: task → its
    options, as ``inspect registered`` shows them.
    """

    hostname: str
    seen: float
    stats: dict[str, Any] = field(default_factory=dict)
    registered: dict[str, dict[str, str]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)


class Presence:
    """The facts of all workers. Every method raises ``StoreUnavailableError``."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._list = NameList(store, INDEX_KEY, most=_MOST, ttl_s=7 * 24 * 3600)

    def write(self, facts: WorkerFacts) -> None:
        # Not by ``asdict``, which copies everything.
        fields = {name: getattr(facts, name) for name in WorkerFacts.__slots__}
        text = json.dumps(fields)
        for left_out in ("tasks", "registered"):
            if len(text) > _MOST_BYTES:
                # As many of the first as leave room for the rest of a worker's facts.
                kept: dict[str, Any] = {}
                size = 0
                for key, value in fields[left_out].items():
                    size += len(json.dumps({key: value}))
                    if size > _MOST_BYTES // 2:
                        break
                    kept[key] = value
                fields[left_out] = kept
                text = json.dumps(fields)
        self._store.put(PREFIX + facts.hostname, text, ttl_s=KEEP_S)

    def enlist(self, hostname: str, now: float) -> None:
        """Put the worker on the list."""
        self._list.add([hostname], now, keep_s=24 * 3600)

    def everyone(self) -> list[WorkerFacts]:
        """The facts of each worker that has written some lately."""
        names = self._list.names()
        found = self._store.get_many(PREFIX + name for name in names) if names else {}
        return [WorkerFacts(**json.loads(text)) for text in found.values()]

    def states(self, everyone: Iterable[WorkerFacts]) -> dict[str, str]:
        """Lease key → ``reserved``, ``active`` or ``ready``, for every task of these workers."""
        keys = [key for facts in everyone for key in facts.tasks]
        leases = self._store.get_many(keys) if keys else {}
        return {key: _state(leases, key) for key in keys}


def task_info(
    envelope: Envelope,
    facts: TaskFacts,
    *,
    hostname: str,
    now: float,
    with_args: bool,
    redelivered: bool,
) -> dict[str, Any]:
    """A task as ``Request.info()`` has it, from its message alone, with small arguments only, and
    if the result backend stores them too (``result_extended``).
    """
    headers, properties = facts.headers, envelope.properties
    info = properties.get("delivery_info")
    info = info if isinstance(info, dict) else {}
    args, kwargs = _arguments(envelope) if with_args else ([], {})
    return {
        "id": facts.task_id[:_SHOWN],
        "name": _short(headers.get("shadow") or facts.name),
        "args": args,
        "kwargs": kwargs,
        "type": facts.name[:_SHOWN],
        "hostname": hostname,
        "told": now,
        "delivery_info": {
            "exchange": _short(info.get("exchange")),
            "routing_key": _short(info.get("routing_key")),
            "priority": _short(properties.get("priority")),
            "redelivered": redelivered,
        },
        "worker_pid": os.getpid(),
    }


def _arguments(envelope: Envelope) -> tuple[Any, Any]:
    """Small arguments as they are, others as their publisher shows them."""
    headers, body = envelope.headers, envelope.body
    small = envelope.content_type == "application/json" and len(body) <= 2048
    if small and not headers.get("compression"):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        with suppress(ValueError, RecursionError):
            content = json.loads(text) if text.count("[") + text.count("{") < 200 else None
            if isinstance(content, dict):
                return content.get("args"), content.get("kwargs")
            if isinstance(content, list) and len(content) == 3:
                return content[0], content[1]
    return _short(headers.get("argsrepr")), _short(headers.get("kwargsrepr"))


def _short(value: Any) -> Any:
    """A plain value as it is shown; ``None`` for any other value."""
    if isinstance(value, str):
        return value[:_SHOWN]
    return value if isinstance(value, int | float) and abs(value) < 1e15 else None


def _state(leases: Mapping[str, str], key: str) -> str:
    lease = read_lease(leases.get(key))
    if lease is None:
        return "reserved"
    return "active" if lease.state is LeaseState.RUNNING else "ready"


#: A worker writes the facts of a batch this often at most, in seconds, unless one lasts: it is a
#: write of some kilobytes.
_RARELY_S = 60.0

#: The options of a task that ``inspect registered`` can be asked for.
_OPTIONS = (
    "name", "exchange", "routing_key", "rate_limit", "serializer", "max_retries", "acks_late",
    "ignore_result", "track_started", "time_limit", "soft_time_limit", "priority", "expires",
)  # fmt: skip

logger = logging.getLogger("twolane.worker")


class WorkerPresence:
    """Writes a worker's own facts, at cold start and at the start of a batch."""

    def __init__(
        self,
        app: Celery,
        store: StateStore,
        consumer: TaskConsumer,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._presence = Presence(store)
        self._consumer = consumer
        self._clock = clock
        self._written = 0.0
        self._postponed: Sequence[Run] | None = None
        self._known: tuple[list[str], dict[str, dict[str, str]]] | None = None

    def enlist(self) -> None:
        """Put the worker on the list. A store that is down now costs only ``inspect``."""
        try:
            self._presence.enlist(self._consumer.hostname, self._clock())
            self._presence.write(self._facts({}))
        except StoreUnavailableError as error:
            logger.warning("this worker is not listed for inspect: %s", error)

    def begin_batch(self, runs: Sequence[Run]) -> None:
        """Write at once, or, soon after the last time, only if the batch lasts: its facts cost more
        than a batch that is over in no time.
        """
        # A clock that was set back says nothing about the last time.
        if 0 <= self._clock() - self._written < _RARELY_S:
            self._postponed = runs
        else:
            self._write(runs)

    def catch_up(self) -> None:
        """Write the facts of a batch that lasts: the watching thread calls this twice a second."""
        runs, self._postponed = self._postponed, None
        if runs is not None:
            self._write(runs)

    def end_batch(self) -> None:
        self._postponed = None

    def _write(self, runs: Sequence[Run]) -> None:
        now = self._written = self._clock()
        with_args = bool(self._app.conf.result_extended)
        self._presence.write(
            self._facts(
                {
                    one.lease_key: task_info(
                        one.envelope,
                        one.facts,
                        hostname=self._consumer.hostname,
                        now=now,
                        with_args=with_args,
                        redelivered=one.record.receive_count > 1,
                    )
                    for one in runs
                    if one.envelope and one.facts and one.lease_key
                }
            )
        )

    def _facts(self, tasks: dict[str, dict[str, Any]]) -> WorkerFacts:
        return WorkerFacts(
            hostname=self._consumer.hostname,
            seen=self._clock(),
            stats=self._consumer.controller.stats(),
            registered=self._registered(),
            tasks=tasks,
        )

    def _registered(self) -> dict[str, dict[str, str]]:
        """A task's options are those of its definition: they are read once, unless more come."""
        names = list(self._app.tasks)
        if self._known is None or self._known[0] != names:
            self._known = (
                names,
                {
                    name: {
                        item: str(value)
                        for item in _OPTIONS
                        if (value := getattr(task, item, None)) is not None
                    }
                    for name, task in sorted(self._app.tasks.items())
                    if not name.startswith("celery.")
                },
            )
        return self._known[1]
