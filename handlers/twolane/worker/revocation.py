"""Revoked tasks: written to the store by ``app.control.revoke``, read here before a task runs.

Celery broadcasts a revoke to live workers, which keep it in memory. Between invocations nothing is
alive to hear it, so the store keeps it, for as long as Celery's workers would (three hours), or the
longest time a message stays on a queue where that is what counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane.state.store import StateStore

PREFIX = "twolane:revoked:"
STAMP_PREFIX = "twolane:revoked-stamp:"
_LIST_KEY = "twolane:revoked-list"
#: An item of DynamoDB holds 400 KB, and an id may be long.
_LIST_BYTES = 300_000

#: The longest that SQS keeps a message, in seconds: a revoke must outlive the message it is for.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
KEEP_S = 14 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is known of a revoke. ``terminate`` asks to stop the task even while it runs."""

    terminate: bool = False
    signal: str = "SIGTERM"


def revoked_key(task_id: str) -> str:
    return f"{PREFIX}{task_id}"


def stamp_key(header: str, value: object) -> str:
    return f"{STAMP_PREFIX}{header}={value}"


def stamp_keys(stamps: Iterable[tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
    """The keys under which a message's stamps would be revoked: key → (header, value)."""
    return {stamp_key(header, value): (header, value) for header, value in stamps}


def write_revocation(revocation: Revocation) -> str:
    return json.dumps({"terminate": revocation.terminate, "signal": revocation.signal})


def read_revocation(text: str) -> Revocation:
    value = json.loads(text)
    return Revocation(bool(value.get("terminate")), str(value.get("signal") or "SIGTERM"))


def remember(store: StateStore, ids: Iterable[str]) -> None:
    """Keep the ids on a list, for ``inspect revoked`` only: the newest thousand."""
    for _ in range(20):
        text = store.get_many([_LIST_KEY]).get(_LIST_KEY)
        listed: list[str] = json.loads(text) if text else []
        kept = [one for one in listed if one not in ids] + list(ids)
        if store.swap(_LIST_KEY, text, _newest(kept), ttl_s=KEEP_S) is None:
            return


def _newest(ids: list[str]) -> str:
    """The list as it is stored: as many of the newest as are kept, and fit in an item."""
    kept = ids[-1000:]
    while len(text := json.dumps(kept)) > _LIST_BYTES and kept:
        kept = kept[len(kept) // 4 + 1 :]
    return text


def revoked_ids(store: StateStore) -> list[str]:
    text = store.get_many([_LIST_KEY]).get(_LIST_KEY)
    return json.loads(text) if text else []
