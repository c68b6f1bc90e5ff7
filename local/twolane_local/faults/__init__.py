"""Faults: named, seeded, composable; each journals that it happened.

    faults = Faults(journal, clock)
    faults.inject("send.reply-lost", target="TaskQueue", seed=7)

The seams that ask them: ``faults.queues`` (SQS), ``faults.invoker`` (functions and ticks), and in
the simulator the result store, the clock and the points inside a task.
"""

from twolane_local.faults.catalogue import CATALOGUE
from twolane_local.faults.injection import Faults, Injector
from twolane_local.faults.kinds import Fault, FaultError, Kind, Parameter, fault_of

__all__ = [
    "CATALOGUE",
    "Fault",
    "FaultError",
    "Faults",
    "Injector",
    "Kind",
    "Parameter",
    "fault_of",
]
