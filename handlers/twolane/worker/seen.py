"""What this environment has finished, for a worker without a state store.

Leases tell a second copy of a message from another message, whichever environment receives it; they
need a store. Without one, an environment at least knows what it has done itself: of a publish whose
answer was lost, both copies mostly come in one batch or the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twolane.worker.lookup import Opened
    from twolane.worker.pool import Ran

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
