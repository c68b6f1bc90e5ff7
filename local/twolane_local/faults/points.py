"""The points inside a task at which its execution environment may die, freeze or fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twolane_local.clock.threads import EnvironmentKilled, current

if TYPE_CHECKING:
    from twolane_local.clock import Clock
    from twolane_local.clock.threads import Process
    from twolane_local.faults.injection import Faults


@dataclass(frozen=True)
class Points:
    """Faults inside tasks: ``inside`` is called when a task begins, before and after its effect.

    ``frozen`` holds the time at which each frozen process goes on, in seconds since the epoch.
    """

    faults: Faults
    clock: Clock
    frozen: dict[Process, float] = field(default_factory=dict)

    def inside(self, point: str, task: str) -> None:
        """Run the faults of this point; called on the environment's thread."""
        process = current.get()
        if process is None:
            return
        process.check()
        for fault in self.faults.at(point, task):
            match fault.fault.name:
                case "environment.frozen" | "environment.frozen-after-effect":
                    self.freeze(process, float(fault.value("freeze_s")))
                case "environment.timeout":
                    process.sleep(float(fault.value("hang_s")))
                case "task.slow":
                    process.sleep(float(fault.value("seconds")))
                case "task.memory-error":
                    raise MemoryError
                case _:
                    process.die()

    def freeze(self, process: Process, seconds: float) -> None:
        """Freeze the machine: alarms that are due meanwhile are raised when it goes on."""
        until = self.clock.time() + seconds
        held: BaseException | None = None
        self.frozen[process] = until
        try:
            while (left := until - self.clock.time()) > 1e-6:
                try:
                    process.sleep(left)
                except EnvironmentKilled:
                    raise
                except BaseException as alarm:  # noqa: BLE001 - raised below, when it can be felt
                    held = held or alarm
        finally:
            self.frozen.pop(process, None)
        if held is not None:
            raise held
