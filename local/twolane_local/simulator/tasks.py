"""The points inside a task at which its execution environment may die, stand still or go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.testing.errors import EnvironmentKilled
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from twolane_local.simulator.host import Host
    from twolane_local.testing.threads import Process


def inside(world: Host, point: str, task: str) -> None:
    """Let happen what is armed for this point; called on the environment's thread."""
    process = current.get()
    if process is None:
        return
    process.check()
    for fault in world.faults.at(point, task):
        match fault.fault.name:
            case "environment.frozen" | "environment.frozen-after-effect":
                freeze(world, process, float(fault.value("freeze_s")))
            case "environment.timeout":
                process.sleep(float(fault.value("hang_s")))
            case "task.slow":
                process.sleep(float(fault.value("seconds")))
            case "task.memory-error":
                raise MemoryError
            case _:
                kill(process)


def kill(process: Process) -> None:
    """The environment dies here: as after SIGKILL, nothing that its code still does gets out."""
    process.dead = True
    raise EnvironmentKilled


def freeze(world: Host, process: Process, seconds: float) -> None:
    """The machine stands still: alarms that were due meanwhile come when it goes on."""
    until = world.clock.time() + seconds
    held: BaseException | None = None
    world.frozen.add(process)
    try:
        while (left := until - world.clock.time()) > 1e-6:
            try:
                process.sleep(left)
            except EnvironmentKilled:
                raise
            except BaseException as alarm:  # noqa: BLE001 - raised below, when it can be felt
                held = held or alarm
    finally:
        world.frozen.discard(process)
    if held is not None:
        raise held
