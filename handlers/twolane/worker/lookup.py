"""The look-up at the start of a batch, and the memory of a worker without a state store.

``Lookup`` asks the store once for the leases and the revocations of all records that are still to
run. Leases recognise a second copy of a message, whichever environment receives it; they need a
store. Without one, ``Finished`` recognises at least what this environment has finished itself: if
the answer to a publish was lost, both copies mostly come in one batch or the next.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from celery.worker import state as worker_state

from twolane.worker.lease import Lease, read_lease
from twolane.worker.revocation import revoked_key, stamp_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twolane.state.store import StateStore
    from twolane.worker.run import Run

#: A batch that takes longer than this asks again: a task may have been revoked meanwhile.
_FRESH_S = 1.0


class Lookup:
    """The store's knowledge of the records that are still to run, kept for a second."""

    def __init__(self, store: StateStore | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._found: dict[str, str] = {}
        self._at = -math.inf

    def begin(self, runs: Sequence[Run]) -> None:
        """Forget the last batch and ask for this one."""
        self._at = -math.inf
        self.refresh(runs)

    def refresh(self, runs: Sequence[Run], start: int = 0) -> None:
        """Ask again for the rest, if the answer is old. Raises ``StoreUnavailableError``."""
        now = self._clock()
        if self._store is None or now - self._at < _FRESH_S:
            return
        stamps: dict[str, tuple[str, Any]] = {}
        revocable: dict[str, str] = {}
        keys: list[str] = []
        for run in runs[start:]:
            if run.facts is not None:
                revocable[revoked_key(run.facts.task_id)] = run.facts.task_id
                stamps |= stamp_keys(run.facts.stamps)
                keys += [key for key in (run.lease_key, run.prior_key) if key]
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

    def lease(self, run: Run) -> Lease | None:
        return read_lease(self._found.get(run.lease_key or ""))

    def prior_lease(self, run: Run) -> Lease | None:
        return read_lease(self._found.get(run.prior_key or ""))


def _note_stamps(revoked: list[tuple[str, Any]]) -> None:
    """Tell Celery's request which stamps are revoked, where a stock worker keeps them."""
    known: dict[str, Any] = worker_state.revoked_stamps
    for header, value in revoked:
        values = known.setdefault(header, [])
        if value not in values:
            values.append(value)


#: How many are remembered at least, and half of how many at most.
_REMEMBERED = 1000

#: After any other end of its task a message that comes again is to run again.
_FINISHED = frozenset({"succeeded", "retried", "ignored"})


class Finished:
    """Publishes whose task has ended here, by the tag that all copies of a message share."""

    def __init__(self) -> None:
        # Two generations: to forget all of the older one at once is cheaper than the oldest each.
        self._new: set[tuple[str | None, str]] = set()
        self._old: set[tuple[str | None, str]] = set()

    def __contains__(self, run: Run) -> bool:
        key = run.publish_key
        return key in self._new or key in self._old

    def remember(self, run: Run) -> None:
        """Remember a run whose message is acknowledged, if its task has finished."""
        if run.end is None or run.end.how not in _FINISHED:
            return
        if len(self._new) >= _REMEMBERED:
            self._old, self._new = self._new, set()
        self._new.add(run.publish_key)
