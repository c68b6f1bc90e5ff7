"""What a run drives: an application's handlers, its schedules, and how its effects are seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.simulator.invariants import Bounds
from twolane_local.simulator.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from celery import Celery

    from twolane_local.model import ScheduleSpec
    from twolane_local.simulator.functions import Function
    from twolane_local.simulator.host import Host, ResultStore


@dataclass(frozen=True)
class Slot:
    """One due slot of ``beat_schedule`` in the time of a run; ``task`` is its task id."""

    entry: str
    at: float
    task: str
    name: str


@dataclass(frozen=True)
class Application:
    """``functions`` by name: ``api``, ``worker`` and ``beat`` are expected.

    ``watched(world)`` has the application tell the world of its effects while it is open;
    ``slots(from, to)`` are the slots that beat owes in that time. ``store(world)`` makes a run's
    result store. An effect takes one of ``effect_s``, drawn from the seed.
    """

    celery: Celery
    functions: Mapping[str, Function]
    root: Path
    start: float
    watched: Callable[[Host], AbstractContextManager[Any]]
    slots: Callable[[float, float], list[Slot]]
    schedules: tuple[ScheduleSpec, ...] = ()
    queue_attributes: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    store: Callable[[Host], ResultStore] = Store
    batch_size: int = 10
    effect_s: Sequence[float] = (0.0, 0.05, 0.3, 2.0)
