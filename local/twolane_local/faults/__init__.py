"""Faults: named, seeded, composable; each journals that it happened.

    faults = Faults(journal, clock)
    faults.inject("send.reply-lost", target="TaskQueue", seed=7)

The seams that ask them: ``faults.queues`` (SQS), ``faults.invoker`` (functions), ``faults.ticks``;
in virtual time also ``faults.commands`` (a Redis in this process) and ``faults.points`` (inside a
task); the clock in the simulator alone.
"""

from twolane_local.faults.injection import (
    CATALOGUE,
    Fault,
    FaultError,
    Faults,
    Injector,
    Kind,
    Parameter,
    fault_of,
)

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
