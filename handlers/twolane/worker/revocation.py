"""Revoked tasks: written to the store by ``app.control.revoke``, read here before a task runs.

Celery broadcasts a revoke to live workers, which keep it in memory. Between invocations nothing is
alive to hear it, so the store keeps it, for as long as Celery's workers would (three hours), or the
longest time a message stays on a queue where that is what counts.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane.worker.lists import NameList

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane.state.store import StateStore

PREFIX = "twolane:revoked:"
STAMP_PREFIX = "twolane:revoked-stamp:"
_LIST_KEY = "twolane:revoked-list"

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
    """Keep the ids on a list, for ``inspect revoked`` only: the newest thousand or so."""
    _list(store).add(ids, time.time())


def revoked_ids(store: StateStore) -> list[str]:
    return _list(store).names()


def _list(store: StateStore) -> NameList:
    return NameList(store, _LIST_KEY, most=1024, ttl_s=KEEP_S)
