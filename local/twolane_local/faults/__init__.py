"""Fault injection: faults are named, seeded and can be combined; each is recorded in the journal.

    faults = Faults(journal, clock)
    faults.inject("send.reply-lost", target="TaskQueue", seed=7)

Faults happen in ``faults.seams`` (SQS, functions and schedules). In virtual time they also happen
in ``testing.stores`` (the result store) and ``testing.task_points`` (inside a task). Only the
simulator has faults of the clock.
"""

from twolane_local.faults.injection import CATALOGUE, Fault, FaultError, Faults

__all__ = ["CATALOGUE", "Fault", "FaultError", "Faults"]
