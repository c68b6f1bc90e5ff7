"""What this environment has finished, for a worker without a state store.

Leases tell a second copy of a message from another message, whichever environment receives it; they
need a store. Without one, an environment at least knows what it has done itself: of a publish whose
answer was lost, both copies mostly come in one batch or the next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane.worker.lookup import Opened
    from twolane.worker.pool import Ran

#: How many are remembered; the oldest are forgotten first.
_REMEMBERED = 1000

#: After any other ending a delivery is to run again, should there be one.
_FINISHED = frozenset({"succeeded", "retried", "ignored"})


class Seen:
    """Publishes whose task has ended here, by what all copies of a message share."""

    def __init__(self) -> None:
        self._publishes: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __contains__(self, one: Opened) -> bool:
        return _publish(one) in self._publishes

    def add(self, one: Opened, ran: Ran | None) -> None:
        """Remember an acknowledged message, if its task has finished."""
        if ran is None or ran.ending not in _FINISHED:
            return
        self._publishes[_publish(one)] = None
        if len(self._publishes) > _REMEMBERED:
            self._publishes.popitem(last=False)


def _publish(one: Opened) -> tuple[str, str]:
    return one.lease_key or "", one.delivery.publish
