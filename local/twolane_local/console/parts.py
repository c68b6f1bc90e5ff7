"""What the control API reads and changes: the journal, and the emulator's public parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.clock import Clock
    from twolane_local.console.application import Application
    from twolane_local.faults.injection import Faults
    from twolane_local.functions import Functions
    from twolane_local.journal import Journal
    from twolane_local.mapping.registry import Mappings
    from twolane_local.queues.core import QueueService
    from twolane_local.schedules.book import ScheduleBook
    from twolane_local.schedules.targets import Invocations


class Describe(Protocol):
    """Tells of the whole emulator: stack, template, addresses, notes."""

    def __call__(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Parts:
    """All of it. ``faults`` is ``None`` where nothing can be made to go wrong."""

    journal: Journal
    clock: Clock
    queues: QueueService
    mappings: Mappings
    functions: Functions
    book: ScheduleBook
    invocations: Invocations
    application: Application
    describe: Describe
    faults: Faults | None = None
