"""Which workers there are and what they do, as they last told the state store.

A stock worker answers a broadcast while it runs. An execution environment is frozen between two
invocations and cannot; so each tells the store at its start and at the start of each batch, and
``app.control.inspect()`` reads what was told. One key lists the workers, one more for each holds
its own facts; both fade away with an environment that is no longer used.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane.worker.lease import LeaseState, read_lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane.state.store import StateStore
    from twolane.worker.wire import Envelope

INDEX_KEY = "twolane:workers"
PREFIX = "twolane:worker:"

#: How long a worker counts as present after it last told something, in seconds. Lambda keeps an
#: idle environment for minutes; it does not say how many.
KEEP_S = 900.0


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

    def tell(self, facts: Facts) -> None:
        # Not by ``asdict``, which copies all that is in them.
        fields = {name: getattr(facts, name) for name in Facts.__slots__}
        self._store.put(PREFIX + facts.hostname, json.dumps(fields), ttl_s=KEEP_S)

    def enlist(self, hostname: str, now: float) -> None:
        """Put the worker on the list. Many may start at once: each swaps what it has read."""
        for _ in range(20):
            text = self._store.get_many([INDEX_KEY]).get(INDEX_KEY)
            listed: dict[str, float] = json.loads(text) if text else {}
            kept = {name: seen for name, seen in listed.items() if seen > now - 24 * 3600}
            kept[hostname] = now
            if self._store.swap(INDEX_KEY, text, json.dumps(kept), ttl_s=7 * 24 * 3600) is None:
                return

    def everyone(self) -> list[Facts]:
        """The facts of each worker that told something lately."""
        text = self._store.get_many([INDEX_KEY]).get(INDEX_KEY)
        if not text:
            return []
        told = self._store.get_many(PREFIX + name for name in json.loads(text))
        return [read_facts(value) for value in told.values()]

    def states(self, everyone: Iterable[Facts]) -> dict[str, str]:
        """Lease key → ``reserved``, ``active`` or ``ready``, for every task that was told of."""
        keys = [key for facts in everyone for key in facts.tasks]
        leases = self._store.get_many(keys) if keys else {}
        return {key: _state(leases, key) for key in keys}


def task_facts(
    envelope: Envelope, *, hostname: str, now: float, with_args: bool, redelivered: bool
) -> dict[str, Any]:
    """A task as ``Request.info()`` has it, from its message alone.

    Arguments are told only where the result backend stores them too (``result_extended``), and
    only small ones.
    """
    headers, properties = envelope.headers, envelope.properties
    info = properties.get("delivery_info") or {}
    args, kwargs = _arguments(envelope) if with_args else ([], {})
    return {
        "id": envelope.task_id,
        "name": headers.get("shadow") or headers.get("task"),
        "args": args,
        "kwargs": kwargs,
        "type": headers.get("task"),
        "hostname": hostname,
        "told": now,
        "delivery_info": {
            "exchange": info.get("exchange"),
            "routing_key": info.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": redelivered,
        },
        "worker_pid": os.getpid(),
    }


def _arguments(envelope: Envelope) -> tuple[Any, Any]:
    fits = envelope.content_type == "application/json" and len(envelope.body) <= 2048
    if not fits or envelope.headers.get("compression"):
        return envelope.headers.get("argsrepr"), envelope.headers.get("kwargsrepr")
    args, kwargs, *_ = json.loads(envelope.body)
    return args, kwargs


def read_facts(text: str) -> Facts:
    return Facts(**json.loads(text))


def _state(leases: Mapping[str, str], key: str) -> str:
    lease = read_lease(leases.get(key))
    if lease is None:
        return "reserved"
    return "active" if lease.state is LeaseState.RUNNING else "ready"
