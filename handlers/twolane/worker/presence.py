"""Which workers there are and what they do, as they last told the state store.

A stock worker answers a broadcast while it runs. An execution environment is frozen between two
invocations and cannot; so each tells the store at its start and at the start of each batch, and
``app.control.inspect()`` reads what was told. A list names the workers, a key for each holds its
own facts; both fade away with an environment that is no longer used.

The worker's side of ``presence``: what it tells about itself and its batch.
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
    from twolane.worker.lookup import Opened
    from twolane.worker.message import Envelope, TaskFacts

INDEX_KEY = "twolane:workers"
#: How many environments are listed: more than most accounts may have at once.
_MOST = 4096
PREFIX = "twolane:worker:"

#: How long a worker counts as present after it last told something, in seconds. Lambda keeps an
#: idle environment for minutes; it does not say how many.
KEEP_S = 900.0

#: The longest text that is told of a task, in characters.
_SHOWN = 1024

#: What one worker tells at most, in bytes: an item of DynamoDB holds 400 KB.
_MOST_BYTES = 300_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What one worker told.

    ``tasks``: lease key → what Celery's ``Request.info()`` says of it; ``registered``: task → its
    options, as ``inspect registered`` shows them.
    """

    hostname: str
    seen: float
    stats: dict[str, Any] = field(default_factory=dict)
    registered: dict[str, dict[str, str]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)


class Presence:
    """Tells and reads. Every method raises ``StoreUnavailableError`` with the store down."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._list = NameList(store, INDEX_KEY, most=_MOST, ttl_s=7 * 24 * 3600)

    def tell(self, facts: Facts) -> None:
        # Not by ``asdict``, which copies all that is in them.
        fields = {name: getattr(facts, name) for name in Facts.__slots__}
        text = json.dumps(fields)
        for left_out in ("tasks", "registered"):
            if len(text) > _MOST_BYTES:
                fields[left_out] = _fewer(fields[left_out])
                text = json.dumps(fields)
        self._store.put(PREFIX + facts.hostname, text, ttl_s=KEEP_S)

    def enlist(self, hostname: str, now: float) -> None:
        """Put the worker on the list."""
        self._list.add([hostname], now, keep_s=24 * 3600)

    def everyone(self) -> list[Facts]:
        """The facts of each worker that told something lately."""
        names = self._list.names()
        told = self._store.get_many(PREFIX + name for name in names) if names else {}
        return [read_facts(value) for value in told.values()]

    def states(self, everyone: Iterable[Facts]) -> dict[str, str]:
        """Lease key → ``reserved``, ``active`` or ``ready``, for every task that was told of."""
        keys = [key for facts in everyone for key in facts.tasks]
        leases = self._store.get_many(keys) if keys else {}
        return {key: _state(leases, key) for key in keys}


def task_facts(
    envelope: Envelope,
    facts: TaskFacts,
    *,
    hostname: str,
    now: float,
    with_args: bool,
    redelivered: bool,
) -> dict[str, Any]:
    """A task as ``Request.info()`` has it, from its message alone.

    Arguments are told only where the result backend stores them too (``result_extended``), and
    only small ones.
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
    """A plain value for showing; nothing of what is none."""
    if isinstance(value, str):
        return value[:_SHOWN]
    return value if isinstance(value, int | float) and abs(value) < 1e15 else None


def _fewer(told: Mapping[str, Any]) -> dict[str, Any]:
    """As many of the first as leave room for the rest of a worker's facts."""
    kept: dict[str, Any] = {}
    size = 0
    for key, value in told.items():
        size += len(json.dumps({key: value}))
        if size > _MOST_BYTES // 2:
            break
        kept[key] = value
    return kept


def read_facts(text: str) -> Facts:
    return Facts(**json.loads(text))


def _state(leases: Mapping[str, str], key: str) -> str:
    lease = read_lease(leases.get(key))
    if lease is None:
        return "reserved"
    return "active" if lease.state is LeaseState.RUNNING else "ready"


#: A worker tells of its batches this often at most, in seconds, unless one lasts: each telling is
#: a write of some kilobytes.
_RARELY_S = 60.0

#: What ``inspect registered`` can be asked for of each task.
_OPTIONS = (
    "name", "exchange", "routing_key", "rate_limit", "serializer", "max_retries", "acks_late",
    "ignore_result", "track_started", "time_limit", "soft_time_limit", "priority", "expires",
)  # fmt: skip

logger = logging.getLogger("twolane.worker")


class Teller:
    """Tells the store at cold start and at the start of each batch."""

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
        self._told = 0.0
        self._untold: Sequence[Opened] | None = None
        self._known: tuple[list[str], dict[str, dict[str, str]]] | None = None

    def enlist(self) -> None:
        """Become known. A store that is down now costs only ``inspect``, not the cold start."""
        try:
            self._presence.enlist(self._consumer.hostname, self._clock())
            self._presence.tell(self._facts({}))
        except StoreUnavailableError as error:
            logger.warning("this worker is not listed for inspect: %s", error)

    def tell(self, batch: Sequence[Opened]) -> None:
        """Tell at once, or, right after the last time, only if the batch takes longer.

        Batches that are over in no time need not be known; telling of each would cost more than
        running it.
        """
        # A clock that was set back says nothing about the last time.
        if 0 <= self._clock() - self._told < _RARELY_S:
            self._untold = batch
        else:
            self._tell(batch)

    def catch_up(self) -> None:
        """Tell what ``tell`` has put off: the watching thread calls it in a batch that lasts."""
        batch, self._untold = self._untold, None
        if batch is not None:
            self._tell(batch)

    def rest(self) -> None:
        """The batch has ended."""
        self._untold = None

    def _tell(self, batch: Sequence[Opened]) -> None:
        now = self._told = self._clock()
        with_args = bool(self._app.conf.result_extended)
        self._presence.tell(
            self._facts(
                {
                    one.lease_key: task_facts(
                        one.envelope,
                        one.facts,
                        hostname=self._consumer.hostname,
                        now=now,
                        with_args=with_args,
                        redelivered=one.record.receive_count > 1,
                    )
                    for one in batch
                    if one.envelope and one.facts and one.lease_key
                }
            )
        )

    def _facts(self, tasks: dict[str, dict[str, Any]]) -> Facts:
        return Facts(
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
