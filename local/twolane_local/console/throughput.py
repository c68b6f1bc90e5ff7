"""How many messages came to and went from each queue of late: a pure function of the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.journal import Event

_COUNTED = {"message.sent": "sent", "message.received": "received", "message.deleted": "deleted"}
#: The plots' steps.
STEP_S, STEPS = 5.0, 36
#: How many events are read: beyond that a plot begins later.
LOOK = 20_000


def throughput(events: Iterable[Event], now: float) -> dict[str, dict[str, Any]]:
    """By queue: ``{stepSeconds, from, sent: [n], received: [n], deleted: [n]}``, oldest first.

    ``events`` come latest first, and are read as far back as the plots go.
    """
    # Whole steps, so that a bar does not change its height as time goes by.
    end = (now // STEP_S + 1) * STEP_S
    begin = end - STEP_S * STEPS
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.at < begin:
            break
        name = _COUNTED.get(event.kind)
        if name is None or event.queue is None or event.at >= end:
            continue
        counts = found.setdefault(event.queue, empty(begin))
        counts[name][int((event.at - begin) // STEP_S)] += 1
    return found


def empty(begin: float) -> dict[str, Any]:
    """A queue on which nothing happened."""
    series = {name: [0] * STEPS for name in _COUNTED.values()}
    return {"stepSeconds": STEP_S, "from": begin, **series}
