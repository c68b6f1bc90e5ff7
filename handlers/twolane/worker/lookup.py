"""What the store knows of a batch: leases and revocations, in one look-up.

What this environment has finished, for a worker without a state store.

Leases tell a second copy of a message from another message, whichever environment receives it; they
need a store. Without one, an environment at least knows what it has done itself: of a publish whose
answer was lost, both copies mostly come in one batch or the next.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from celery.worker import state as worker_state

from twolane.errors import MalformedMessageError
from twolane.publish.claimcheck import MAX_BODY_BYTES
from twolane.state.store import bounded
from twolane.worker.lease import (
    BODY_OF,
    ORIGIN,
    Delivery,
    Lease,
    delivery_of,
    lease_key,
    prior_key,
    read_lease,
)
from twolane.worker.message import Envelope, TaskFacts, decoded, open_envelope, read_facts
from twolane.worker.revocation import revoked_key, stamp_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

    from twolane.state.store import StateStore
    from twolane.worker.pool import Ran
    from twolane.worker.records import Record

#: A batch that takes longer than this asks again: a task may have been revoked meanwhile.
_FRESH_S = 1.0


@dataclass(frozen=True)
class Opened:
    """A record with its envelope and what that says of its task, or with what is wrong with it."""

    record: Record
    envelope: Envelope | None
    facts: TaskFacts | None
    problem: Exception | None = None

    @property
    def task_id(self) -> str | None:
        return self.facts.task_id if self.facts else None

    @cached_property
    def lease_key(self) -> str | None:
        facts = self.facts
        return bounded(lease_key(facts.headers, facts.task_id)) if facts else None

    @cached_property
    def prior_key(self) -> str | None:
        facts = self.facts
        found = prior_key(facts.headers, facts.task_id) if facts else None
        return bounded(found) if found else None

    @cached_property
    def delivery(self) -> Delivery:
        record, facts = self.record, self.facts
        times = record.sent_s, record.first_received_s
        publish = facts.publish if facts else None
        origins = [facts.headers.get(name) for name in (BODY_OF, ORIGIN)] if facts else []
        return delivery_of(
            record.receipt_handle, record.message_id, publish, *times, origins=origins
        )


def open_record(
    record: Record,
    redeem: Callable[[str], str],
    accept: AbstractSet[str] = frozenset({"application/json"}),
    limit: int = MAX_BODY_BYTES,
) -> Opened:
    """Open one record; ``redeem`` gets a claim check's body, and may fail in its own ways.

    Raises nothing: what is wrong with a message is its own ``problem``, raised in its turn.
    """
    try:
        if record.problem is not None:
            raise MalformedMessageError(record.problem)
        body = redeem(record.body)
    except Exception as error:  # noqa: BLE001 - it is about this record
        return Opened(record, None, None, error)
    try:
        envelope = open_envelope(body)
        facts = read_facts(envelope, lambda one: decoded(one, accept, limit))
    except MalformedMessageError as error:
        return Opened(record, None, None, error)
    except Exception as error:  # noqa: BLE001 - no text may break more than its own record
        problem = MalformedMessageError(f"the message cannot be read: {error!r}")
        problem.__cause__ = error
        return Opened(record, None, None, problem)
    return Opened(record, envelope, facts)


class Lookup:
    """The store's knowledge of the records that are still to run, kept for a second."""

    def __init__(self, store: StateStore | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._found: dict[str, str] = {}
        self._at = -math.inf

    def begin(self, batch: Sequence[Opened]) -> None:
        """Forget the last batch and ask for this one."""
        self._at = -math.inf
        self.refresh(batch)

    def refresh(self, batch: Sequence[Opened], start: int = 0) -> None:
        """Ask again for what is left, if the answer is old. Raises ``StoreUnavailableError``."""
        now = self._clock()
        if self._store is None or now - self._at < _FRESH_S:
            return
        stamps: dict[str, tuple[str, Any]] = {}
        revocable: dict[str, str] = {}
        keys: list[str] = []
        for one in batch[start:]:
            if one.facts is not None:
                revocable[revoked_key(one.facts.task_id)] = one.facts.task_id
                stamps |= stamp_keys(one.facts.stamps)
                keys += [key for key in (one.lease_key, one.prior_key) if key]
        self._found = self._store.get_many([*keys, *revocable, *stamps]) if keys else {}
        self._at = now
        worker_state.revoked.update(
            task_id for key, task_id in revocable.items() if key in self._found
        )
        _note_stamps([pair for key, pair in stamps.items() if key in self._found])

    def store_at_hand(self) -> AbstractContextManager[None]:
        """For the batch, a store that keeps its connection where it can."""
        at_hand = getattr(self._store, "at_hand", nullcontext)
        return cast("AbstractContextManager[None]", at_hand())

    def lease(self, one: Opened) -> Lease | None:
        return read_lease(self._found.get(one.lease_key or ""))

    def prior_lease(self, one: Opened) -> Lease | None:
        return read_lease(self._found.get(one.prior_key or ""))


def _note_stamps(revoked: list[tuple[str, Any]]) -> None:
    """Tell Celery's request which stamps are revoked, where a stock worker keeps them."""
    known: dict[str, Any] = worker_state.revoked_stamps
    for header, value in revoked:
        values = known.setdefault(header, [])
        if value not in values:
            values.append(value)


#: How many are remembered at least, and half of how many at most.
_REMEMBERED = 1000

#: After any other ending a delivery is to run again, should there be one.
_FINISHED = frozenset({"succeeded", "retried", "ignored"})


class Seen:
    """Publishes whose task has ended here, by what all copies of a message share."""

    def __init__(self) -> None:
        # Two generations: to forget all of the older one at once is cheaper than the oldest each.
        self._new: set[tuple[Any, str]] = set()
        self._old: set[tuple[Any, str]] = set()
        self._at_hand: tuple[Any, str] = (None, "")

    def begin(self, one: Opened) -> bool:
        """Whether this message's task has ended here before; it is the one at hand from now on."""
        facts = one.facts
        publish = facts.publish if facts is not None else None
        self._at_hand = key = (one.task_id, publish or one.record.message_id)
        return key in self._new or key in self._old

    def end(self, ran: Ran | None) -> None:
        """Remember the message at hand, which is acknowledged, if its task has finished."""
        if ran is None or ran.ending not in _FINISHED:
            return
        if len(self._new) >= _REMEMBERED:
            self._old, self._new = self._new, set()
        self._new.add(self._at_hand)
