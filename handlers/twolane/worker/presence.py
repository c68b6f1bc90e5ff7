"""Which workers there are and what they do, as they last told the state store.

A stock worker answers a broadcast while it runs. An execution environment is frozen between two
invocations and cannot; so each tells the store at its start and at the start of each batch, and
``app.control.inspect()`` reads what was told. A list names the workers, a key for each holds its
own facts; both fade away with an environment that is no longer used.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane.worker.lease import LeaseState, read_lease
from twolane.worker.lists import NameList

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane.state.store import StateStore
    from twolane.worker.facts import TaskFacts
    from twolane.worker.wire import Envelope

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
