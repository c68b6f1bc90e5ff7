"""The claim on one slot, for schedules that send one event for each entry and slot.

Each has a key of its own in the state store: a thousand entries that are due at midnight must not
fight over one ledger.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twolane.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane.state import StateStore

#: An event may come again for a day (Scheduler) and some hours (Lambda); then the claim may go.
_TTL_S = 3 * 86_400.0
_SENT = "sent"


@contextmanager
def claim_slot(store: StateStore, task_id: str, *, now: float, until: float) -> Iterator[bool]:
    """Tell whether the slot is ours to send; note that it is sent when the block ends well.

    An exception in the block frees the claim and goes on. Raises ``PublishError`` while another
    invocation holds the claim: it may die, and Lambda's retry then sends.
    """
    key = claim_key(task_id)
    mine = json.dumps(until)
    stood = store.swap(key, None, mine, ttl_s=_TTL_S)
    if stood == _SENT:
        yield False
        return
    if stood is not None and not _take_over(store, key, stood, mine, now):
        raise PublishError(
            f"task {task_id} is being sent by another invocation; "
            "if that one fails, this event's retry sends it"
        )
    try:
        yield True
    except BaseException:
        store.delete(key, expected=mine)
        raise
    store.put(key, _SENT, ttl_s=_TTL_S)


def claim_key(task_id: str) -> str:
    """Where the claim is kept."""
    return f"twolane:tick:slot:{task_id}"


def _take_over(store: StateStore, key: str, stood: str, mine: str, now: float) -> bool:
    """Claim what a dead invocation left; an empty text says that it vanished meanwhile."""
    if stood and float(json.loads(stood)) > now:
        return False
    return store.swap(key, stood or None, mine, ttl_s=_TTL_S) is None
