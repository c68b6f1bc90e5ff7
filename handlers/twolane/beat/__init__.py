"""Celery beat with no beat process: a schedule's tick sends the due entries of ``beat_schedule``.

``handler`` is the adapter; ``events`` reads the event of a tick. ``entries`` has the application's
schedule, ``database`` that of django-celery-beat; ``ledger`` claims a slot of an entry in the state
store, so that a tick that comes twice sends once; ``sending`` publishes the task with an id of
entry and slot. ``inspection`` lists what comes next, ``router`` over HTTP; ``export`` writes the
schedule as EventBridge schedules.

The handler is imported on first use: an API that only lists the schedule has no need of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane.beat.handler import BeatHandler

__all__ = ["BeatHandler"]


def __getattr__(name: str) -> object:
    if name != "BeatHandler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twolane.beat.handler import BeatHandler

    return BeatHandler
