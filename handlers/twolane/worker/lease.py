"""A lease for each piece of work: never lost, never twice.

SQS and the event source mapping deliver *at least* once. Before a task runs, its environment takes
the lease of the task's id; whoever comes second finds it:

===========  ========================================================================
``running``  another environment is at it; the message goes back until the lease ends
``done``     the work was finished; the message is acknowledged, not run
``rejected`` the task refused the message for good; it goes back untouched, so that
             SQS moves it to the dead-letter queue
===========  ========================================================================

The lease's value names the delivery that holds it (a digest of the receipt handle, which is new for
each receive), and each change states the value it expects. So an environment that was frozen, or
whose lease ran out while it worked on, cannot end the lease of the one that took over.

A retry and a replacement keep their task's id: both counts belong to the key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane.state.store import StateStore

PREFIX = "twolane:lease:"


class LeaseState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as stored. ``until`` is in epoch seconds, ``text`` the stored value itself."""

    state: LeaseState
    holder: str
    until: float
    message_id: str
    text: str


def lease_key(headers: Mapping[str, Any], task_id: str) -> str:
    """The key of the lease of one run of a task."""
    retries = headers.get("retries") or 0
    replaced = headers.get("replaced_task_nesting") or 0
    suffix = f":{retries}:{replaced}" if retries or replaced else ""
    return f"{PREFIX}{task_id}{suffix}"


def holder_of(receipt_handle: str) -> str:
    return hashlib.blake2b(receipt_handle.encode(), digest_size=9).hexdigest()


def read_lease(text: str | None) -> Lease | None:
    if not text:
        return None
    value = json.loads(text)
    return Lease(
        LeaseState(value["state"]), value["holder"], value["until"], value["message"], text
    )


def write_lease(
    state: LeaseState, holder: str, until: float, message_id: str, **about: Any
) -> Lease:
    """``about`` is for whoever looks at the store: the worker's name, when it started …"""
    value = {"state": state, "holder": holder, "until": until, "message": message_id, **about}
    return Lease(state, holder, until, message_id, json.dumps(value, separators=(",", ":")))


class Leases:
    """Takes and ends leases. Every method raises ``StoreUnavailableError`` with the store down."""

    def __init__(self, store: StateStore, clock: Callable[[], float], keep_s: float) -> None:
        self._store = store
        self._clock = clock
        self._keep_s = keep_s

    def obstacle(self, seen: Lease | None, holder: str, message_id: str) -> Lease | None:
        """The lease, if it stands in this delivery's way.

        A refused message that was redriven from its dead-letter queue is to run again. SQS makes a
        new message of it, with a new id:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        if seen is None:
            return None
        if seen.state is LeaseState.REJECTED:
            return seen if seen.message_id == message_id else None
        if seen.state is LeaseState.RUNNING:
            return seen if seen.holder != holder and seen.until > self._clock() else None
        return seen

    def take(self, key: str, seen: Lease | None, wanted: Lease) -> Lease | None:
        """Put ``wanted`` in the place of ``seen``; ``None`` on success, else what stands there."""
        ttl_s = max(1.0, wanted.until - self._clock())
        stood = self._store.swap(key, seen.text if seen else None, wanted.text, ttl_s=ttl_s)
        if stood is None:
            return None
        found = read_lease(stood)
        if found is None or self.obstacle(found, wanted.holder, wanted.message_id) is None:
            # What was seen is gone, or has run out since: one more try, on what is there now.
            stood = self._store.swap(key, found.text if found else None, wanted.text, ttl_s=ttl_s)
            return None if stood is None else read_lease(stood) or wanted
        return found

    def end(self, key: str, held: Lease, state: LeaseState) -> bool:
        """Record how the work ended; ``False`` where the lease has passed to another delivery."""
        now = self._clock()
        ended = write_lease(state, held.holder, now + self._keep_s, held.message_id)
        return self._store.swap(key, held.text, ended.text, ttl_s=self._keep_s) is None

    def release(self, key: str, held: Lease) -> None:
        """Give the lease back: the work shall run again."""
        self._store.delete(key, expected=held.text)
